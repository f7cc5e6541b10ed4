"""Decoders alone on small pyramids, and smp's outputs on them: `golden/make_climbing_decoders.py` wrote these."""

import keras
import numpy as np

from kerazoo.checkpoints.tensors import assign, places
from kerazoo.convert.smp_decoders import DECODERS
from kerazoo.types import Level
from support.golden_rule import fill, image
from support.source_tree import REPOSITORY

GOLDEN = REPOSITORY / "tests" / "golden" / "climbing_decoders.npz"
PYRAMID = ((2, 16), (4, 18), (8, 20), (16, 24), (32, 32))
"""Stride and channels of the levels."""

DILATED = (*PYRAMID[:4], (16, 32))
SIZE, LARGE = (64, 96), (144, 208)


def decoder_model(part, pyramid=PYRAMID) -> keras.Model:
    """The decoder for levels of any size."""
    inputs = [keras.Input((None, None, channels), name=f"in{i}") for i, (_, channels) in enumerate(pyramid)]
    decoded = part(tuple(Level(stride, x) for (stride, _), x in zip(pyramid, inputs, strict=True)))
    return keras.Model(inputs, [level.tensor for level in decoded], name="decoder")


def strides_of(part, pyramid) -> list[int]:
    """Strides that the decoder says its levels have."""
    levels = [Level(stride, keras.KerasTensor((None, None, None, channels))) for stride, channels in pyramid]
    return [level.stride for level in part(tuple(levels))]


def arrays(pyramid=PYRAMID, size=SIZE, batch=1) -> list[np.ndarray]:
    """Levels of an image of `size`."""
    return [
        image(level, (batch, *(-(-n // stride) for n in size), channels))
        for level, (stride, channels) in enumerate(pyramid, start=1)
    ]


def run(model, inputs) -> list[np.ndarray]:
    """Outputs in inference."""
    outputs = model(inputs, training=False)
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return [keras.ops.convert_to_numpy(output) for output in outputs]


def assert_equals_smp(golden, smp_class, part, pyramid=PYRAMID, size=SIZE):
    """The finest level is smp's, with weights that are a function of the name of each of smp's tensors."""
    model = decoder_model(part, pyramid)

    def state_dict_name(path):
        return DECODERS[smp_class](path, len(pyramid))

    assign(model, {name: fill(name, shape) for name, shape in places(model, state_dict_name).items()}, state_dict_name)
    finest = run(model, arrays(pyramid, size))[0][:, ::5, ::5, :8]
    with np.load(GOLDEN) as file:
        reference = file[golden]
    assert finest.shape == reference.shape
    assert np.abs(finest - reference).max() < 1e-4 * np.abs(reference).max()


def assert_compiled_equals_eager(part, pyramid=PYRAMID, size=(50, 71), *, jit):
    """On TensorFlow: sizes that only the run knows, or XLA, give what eager calls give."""
    import tensorflow as tf

    model, inputs = decoder_model(part, pyramid), arrays(pyramid, size)
    expected = run(model, inputs)
    unknown = [tf.TensorSpec((None, None, None, channels)) for _, channels in pyramid]
    function = tf.function(
        lambda *levels: model(list(levels), training=False),
        input_signature=None if jit else unknown,
        jit_compile=jit,
    )
    outputs = function(*inputs)
    for output, level in zip(outputs if isinstance(outputs, list) else [outputs], expected, strict=True):
        np.testing.assert_allclose(output, level, rtol=1e-4, atol=1e-4 * np.abs(level).max())
