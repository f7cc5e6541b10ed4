"""Every decoder over a few encoders of every kind: sizes, channels, classes, precisions, XLA, and files.

By default each decoder is built over the first encoder that it takes. The rest is slow, and docs/decoders.csv keeps
what it says; see tests/support/decoder_record.py.
"""

import itertools
import json
import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from support.decoder_record import CHECKS, ENCODERS, RECORD
from support.record import record_row
from support.tiers import on_one_backend

import kerazoo as kz

pytestmark = pytest.mark.backends
BACKEND = keras.backend.backend()
SMALL = {
    "bifpn": {"width": 8, "repeats": 2},
    "deconvnet": {"fc_width": 16},
    "deeplab_v1": {"width": 8},
    "deeplab_v2": {"width": 8},
    "deeplab_v3": {"width": 8},
    "deeplab_v3_plus": {"width": 8, "low_level_width": 8},
    "fapn": {"width": 8, "offset_groups": 2},
    "fcn": {"width": 8, "context_width": 8},
    "fpn": {"width": 8},
    "linknet": {"width": 8},
    "pan": {"width": 8},
    "patch": {"width": 8},
    "pspnet": {"width": 8},
    "pyramid_attention": {"width": 8},
    "segformer": {"width": 8},
    "semantic_fpn": {"pyramid_width": 8, "width": 32},
    "upernet": {"width": 8},
}
HEAD = kz.heads.Hypercolumn(width=8)  # which reads every level

ONE_LEVEL = {
    "bifpn": "BiFPN with finest_stride=8 leaves none of the strides [7]. Lower `finest_stride`",
    "deeplab_v3_plus": "needs a level of stride 4 or more beside the coarsest one, received the strides [7]",
    "fcn": "FCN with skips=2 needs 3 levels, received strides [7]. Take skips=0 at most",
    "linknet": "needs at least two levels, one of them to add",
    "manet": "needs at least two levels, received strides [7]",
    "pan": "exchanges features between levels and needs at least two",
    "unet": "needs at least two levels, received strides [7]",
    "unet_original": "needs at least two levels, received strides [7]",
    "unet_plus_plus": "needs at least two levels, received strides [7]",
}
NO_SWITCHES = "undoes the max poolings of its encoder, and .* does not say where the maxima were"
NO_POOLING = "MobileNetV3Small has no max-pool switches: 'conv' lowers the resolution, and is no max pooling"
REFUSED = {
    **{(decoder, "convmixer"): re.escape(reason) for decoder, reason in ONE_LEVEL.items()},
    **{
        (decoder, encoder): NO_POOLING if encoder == "mobilenetv3" else NO_SWITCHES
        for decoder in ("deconvnet", "segnet")
        for encoder in ENCODERS
        if encoder != "vgg"
    },
}
"""Combinations that make no sense, and what the ValueError says of them."""


def segmenter(decoder, encoder, **options):
    part = kz.decoders.create(decoder, **SMALL.get(decoder, {}))
    encoder, arguments = ENCODERS[encoder]
    return kz.segmenter(encoder, part, HEAD, **{"num_classes": 1, **arguments, **options})


def images(height, width, channels):
    return np.random.default_rng(0).integers(0, 256, (2, height, width, channels)).astype("uint8")


def predicted(model, height, width, channels):
    logits = model.predict_on_batch(images(height, width, channels))
    assert logits.shape == (2, height, width, model.output_shape[-1])
    assert logits.dtype == "float32"
    assert np.isfinite(logits).all()
    return logits


def pairs(*, refused):
    return [
        pytest.param(decoder, encoder, id=f"{decoder}-{encoder}")
        for decoder in kz.decoders.list()
        for encoder in ENCODERS
        if ((decoder, encoder) in REFUSED) == refused
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder of models that the tests of this module saved, with an image and what they predict for it."""
    return tmp_path_factory.mktemp("models")


@on_one_backend
@pytest.mark.skipif(BACKEND == "jax", reason="the contract of decoders compiles each of them on JAX already")
@pytest.mark.parametrize("decoder", kz.decoders.list())
def test_every_decoder_takes_an_encoder(decoder):
    """One channel, five classes, and sizes that only the run knows."""
    encoder = next(encoder for encoder in ENCODERS if (decoder, encoder) not in REFUSED)
    predicted(segmenter(decoder, encoder, num_classes=5, image_shape=(None, None, 1)), 45, 67, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("decoder", "encoder"), pairs(refused=False))
def test_pair(decoder, encoder, files, record_property):
    model = segmenter(decoder, encoder, num_classes=5, image_shape=(None, None, 1))
    logits = predicted(model, 45, 67, 1)
    check_sizes_of_the_run(model)

    name = f"{decoder}-{encoder}"
    model.save(files / f"{name}.keras")
    np.savez(files / f"{name}.npz", images=images(45, 67, 1), logits=logits)

    for policy, size in (("mixed_float16", (45, 67)), ("mixed_bfloat16", (64, 64))):
        keras.config.set_dtype_policy(policy)
        mixed = segmenter(decoder, encoder, image_shape=(*size, 3))
        assert {x.dtype for x in mixed.get_layer("decoder").outputs} == {policy.removeprefix("mixed_")}
        predicted(mixed, *size, 3)

    record_row(
        record_property,
        RECORD,
        decoder=decoder,
        encoder=encoder,
        any_size="yes",
        float16="yes",
        bfloat16="yes",
        xla=compiled(model, logits),
    )


def check_sizes_of_the_run(model):
    """Another size; on TensorFlow, where a graph may not know them, by one that does not."""
    if BACKEND != "tensorflow":
        predicted(model, 64, 32, 1)
        return
    import tensorflow as tf

    unknown = tf.TensorSpec((None, None, None, 1), "uint8")
    function = tf.function(lambda image: model(image, training=False), input_signature=[unknown])
    for height, width in ((45, 67), (64, 32)):
        logits = function(images(height, width, 1)).numpy()
        np.testing.assert_allclose(logits, predicted(model, height, width, 1), rtol=1e-3, atol=1e-3)


def compiled(model, logits):
    """Check that XLA gives the same logits; "yes", or "none" on a backend without XLA."""
    if BACKEND == "torch":
        return "none"
    if BACKEND == "tensorflow":  # on JAX it is XLA that made the logits
        model.compile(jit_compile=True)
        np.testing.assert_allclose(predicted(model, 45, 67, 1), logits, rtol=1e-3, atol=1e-3 * np.abs(logits).max())
    return "yes"


@pytest.mark.slow
def test_files_are_read_in_a_fresh_process(files, record_property):
    """All models that were saved above, by one process that knows nothing of how they were built."""
    names = sorted(path.stem for path in files.glob("*.keras"))
    if not names:
        pytest.skip("no model was saved: select some of test_pair too")
    code = (
        "import json, sys, numpy as np, keras, kerazoo\n"
        "for name in sys.argv[1:]:\n"
        "    file = np.load(f'{name}.npz')\n"
        "    logits = keras.models.load_model(f'{name}.keras').predict_on_batch(file['images'])\n"
        "    print(json.dumps([name, float(np.abs(logits - file['logits']).max())]), flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(RECORD.path.parents[1])])}
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *names],
        cwd=files,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    errors = dict(json.loads(line) for line in process.stdout.splitlines() if line.startswith("["))
    assert sorted(errors) == names
    assert {name: error for name, error in errors.items() if not error < 1e-4} == {}
    for name in names:
        decoder, encoder = name.split("-")
        record_row(record_property, RECORD, decoder=decoder, encoder=encoder, reload="yes")


@pytest.mark.parametrize(("decoder", "encoder"), pairs(refused=True))
def test_what_makes_no_sense_is_refused(decoder, encoder, record_property):
    with pytest.raises(ValueError, match=REFUSED[decoder, encoder]):
        segmenter(decoder, encoder)
    record_row(record_property, RECORD, decoder=decoder, encoder=encoder, **dict.fromkeys(CHECKS, "refused"))


def test_the_record_of_decoders_is_complete():
    """One row for every decoder, encoder and backend, where every check passed or the combination is refused."""
    rows = RECORD.read()
    every = itertools.product(kz.decoders.list(), ENCODERS, ("jax", "tensorflow", "torch"))
    every = set(every)
    assert not every ^ rows.keys(), f"{sorted(every ^ rows.keys())}: run what tests/support/decoder_record.py says"
    for (decoder, encoder, backend), row in rows.items():
        assert list(row) == RECORD.fields
        cells = {row[check] for check in CHECKS}
        expected = {"refused"} if (decoder, encoder) in REFUSED else {"yes"}
        assert cells - ({"none"} if backend == "torch" else set()) == expected, (
            f"{decoder} over {encoder} on {backend} says {row}: run what tests/support/decoder_record.py says"
        )
