"""From a source to batches: shapes, ranges, order, resume, cache, and errors that reach the user."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.data_fixtures import Arrays, arrays, figure, labeled, write

import kerazoo as kz
from kerazoo.data.batches.sampling import Order

pipeline = kz.data.pipeline


def first_pixels(dataset):
    """The value of each image, which says which sample it is."""
    return [int(image[0, 0, 0]) for images, _ in dataset for image in images.numpy()]


def content(dataset):
    return [tuple(part.numpy().tobytes() for part in batch) for batch in dataset]


# --- shapes, types, ranges ---


def test_batches_have_static_shapes_and_known_number():
    dataset = pipeline(arrays(12), image_size=(8, 20), batch_size=4)
    images, masks = dataset.element_spec
    assert (images.shape, images.dtype) == ((4, 8, 20, 1), tf.uint8)
    assert (masks.shape, masks.dtype) == ((4, 8, 20), tf.int32)
    assert len(dataset) == 3
    ragged = pipeline(arrays(12), image_size=(8, 20), batch_size=5)
    assert ragged.element_spec[0].shape == (None, 8, 20, 1)
    assert [len(images) for images, _ in ragged] == [5, 5, 2]
    whole = pipeline(arrays(12), image_size=(8, 20), batch_size=5, drop_remainder=True)
    assert [images.shape[0] for images, _ in whole] == [5, 5]
    assert len(whole) == 2


def test_right_pixels_after_resizing(tmp_path):
    mask = np.kron(figure(24, 32), np.ones((4, 4), bool))
    write(tmp_path / "1.jpg", np.where(mask, 220, 30).astype(np.uint8), quality=95)
    write(tmp_path / "1.png", mask.astype(np.uint8))
    source = kz.data.sources.folder(tmp_path)
    for size in ((24, 32), (48, 64), (192, 256), (40, 30)):
        (images, masks) = next(iter(pipeline(source, image_size=size, batch_size=1)))
        agree = (images[0, ..., 0].numpy() > 125) == (masks[0].numpy() > 0)
        assert agree.mean() > 0.98, size
    (_, masks) = next(iter(pipeline(source, image_size=(24, 32), batch_size=1)))
    assert (masks[0].numpy() == figure(24, 32)).all()


def test_image_resize_is_antialiased_and_mask_resize_is_not():
    stripes = np.zeros((1, 64, 64, 1), np.uint8)
    stripes[:, :, ::2] = 200
    source = kz.data.Source(Arrays(images=stripes, masks=stripes[..., 0]))
    (images, masks) = next(iter(pipeline(source, image_size=(16, 16), batch_size=1)))
    assert np.abs(images.numpy().astype(int) - 100).max() < 15
    assert set(np.unique(masks)) <= {0, 200}, "a mask was interpolated"


def test_sixteen_bits_become_0_to_255_in_float():
    source = arrays(2, dtype=np.uint16)
    source._reader.images[:] = np.array([257 * 100 + 128, 65535]).reshape(2, 1, 1, 1)
    for size in ((16, 16), (7, 9)):
        (images, _) = next(iter(pipeline(source, image_size=size, batch_size=2, augment=["flip"], shuffle=False)))
        assert images.dtype == tf.float32
        np.testing.assert_allclose(images[:, 3, 3, 0], [100 + 128 / 257, 255], rtol=1e-6)


def test_channels():
    gray, color = arrays(2), arrays(2, channels=3)
    assert pipeline(gray, image_size=(8, 8), batch_size=2, channels=3).element_spec[0].shape == (2, 8, 8, 3)
    (images, _) = next(iter(pipeline(color, image_size=(8, 8), batch_size=2, channels=1, shuffle=False)))
    assert images[:, 0, 0, 0].numpy().tolist() == [0, 1]
    with pytest.raises(ValueError, match="An image of 3 channels cannot become one of channels=2"):
        pipeline(color, image_size=None, batch_size=1, channels=2)


def test_image_size_none_keeps_sizes(tmp_path):
    for name, size in (("a", (10, 14)), ("b", (12, 9))):
        write(tmp_path / f"{name}.jpg", np.zeros(size, np.uint8))
        write(tmp_path / f"{name}.png", np.zeros(size, np.uint8))
    source = kz.data.sources.folder(tmp_path)
    dataset = pipeline(source, image_size=None, batch_size=1, shuffle=False)
    assert dataset.element_spec[0].shape == (1, None, None, 1)
    assert [images.shape[1:3] for images, _ in dataset] == [(10, 14), (12, 9)]
    with pytest.raises(
        ValueError, match="needs images of one size; there are 2, from 10x14 to 12x9. Pass `image_size`"
    ):
        pipeline(source, image_size=None, batch_size=2)
    assert pipeline(arrays(4), image_size=None, batch_size=2).element_spec[0].shape == (2, 16, 16, 1)


# --- outputs ---


def test_outputs_for_models_with_several_heads():
    source = arrays(4, positives=2)
    form = {"image_size": (16, 16), "batch_size": 4, "shuffle": False}
    (_, both) = next(iter(pipeline(source, **form, outputs=("mask", "label"))))
    assert set(both) == {"mask", "label"}
    assert both["label"].dtype == tf.float32
    assert both["label"].numpy().tolist() == [[1], [1], [0], [0]]
    (_, alone) = next(iter(pipeline(source, image_size=(16, 16), batch_size=4, outputs=("label",))))
    assert list(alone) == ["label"]
    several = labeled([0, 2, 1])
    (_, label) = next(iter(pipeline(several, image_size=None, batch_size=3, outputs="label", shuffle=False)))
    assert label.numpy().tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    (_, both) = next(iter(pipeline(several, image_size=None, batch_size=3, outputs=("label", "mask"), shuffle=False)))
    assert both["label"].numpy().tolist() == label.numpy().tolist()
    for wrong in ("masks", (), ("mask", "mask")):
        with pytest.raises(ValueError, match='`outputs` must be "mask", "label" or a tuple of these'):
            pipeline(source, image_size=(16, 16), batch_size=4, outputs=wrong)


def test_labels_beside_a_mask_are_the_masks():
    """A lesion that augmentation or resizing removes is no longer in the label."""
    source = arrays(8, positives=8, size=(16, 16))
    shifted = kz.data.augment.shift(factor=1.0)
    batches = list(pipeline(source, image_size=(16, 16), batch_size=8, augment=[shifted], outputs=("mask", "label")))
    mask, label = batches[0][1]["mask"].numpy(), batches[0][1]["label"].numpy()
    assert label[:, 0].tolist() == (mask == 1).any(axis=(1, 2)).tolist()
    assert 0 < label.sum() < 8


def test_labels_alone_open_no_mask():
    source = arrays(4)
    _ = source.labels
    before = source._reader.reads["mask"]
    for _ in pipeline(source, image_size=(8, 8), batch_size=2, outputs="label", augment=["flip", "rotate"]):
        pass
    assert source._reader.reads["mask"] == before == 0


def test_ignored_pixels_fill_what_augmentation_brings_in():
    masks = np.ones((2, 16, 16), np.uint8)
    source = kz.data.Source(Arrays(images=masks[..., np.newaxis], masks=masks, ignore_class=255))
    (_, masks) = next(iter(pipeline(source, image_size=(16, 16), batch_size=2, augment=["rotate"])))
    assert set(np.unique(masks)) == {1, 255}


# --- order ---


@pytest.mark.parametrize("options", [{}, {"augment": ["flip"]}, {"cache": "memory"}], ids=str)
def test_every_epoch_has_an_order_of_its_own(options):
    """Also without augmentation: a folder sorted by class must not be trained on in order."""
    dataset = pipeline(arrays(9), image_size=(8, 8), batch_size=4, seed=5, **options)
    epochs = [first_pixels(dataset) for _ in range(3)]
    assert epochs == [Order(size=9, seed=5)(epoch).tolist() for epoch in range(3)]
    assert list(range(9)) not in epochs
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != first_pixels(pipeline(arrays(9), image_size=(8, 8), batch_size=4, seed=6, **options))


def test_without_shuffling_the_order_is_that_of_the_source():
    source = arrays(9)
    for options in ({}, {"augment": ["flip"]}):
        dataset = pipeline(source, image_size=(8, 8), batch_size=4, shuffle=False, **options)
        assert first_pixels(dataset) == first_pixels(dataset) == list(range(9))
    with pytest.raises(ValueError, match='sampler="under" draws at random; leave out shuffle=False, or take "natural"'):
        pipeline(source, image_size=(8, 8), batch_size=4, shuffle=False, sampler="under")


@pytest.mark.parametrize("options", [{}, {"sampler": "under"}], ids=str)
def test_the_former_default_of_shuffle_shuffles(options):
    options = {"image_size": (8, 8), "batch_size": 4, **options}
    with pytest.warns(DeprecationWarning, match="Type `shuffle=True`") as noted:
        former = first_pixels(pipeline(arrays(9), shuffle=None, **options))
    assert noted[0].filename == __file__, "the warning must point to the caller"
    assert former == first_pixels(pipeline(arrays(9), **options)) != list(range(9))


@pytest.mark.parametrize("augment", [(), ("rotate", "noise", "flip")], ids=["plain", "augmented"])
def test_batches_do_not_depend_on_the_workers(augment):
    source = kz.data.sources.synthetic(21, image_size=(24, 24), empty_fraction=0.6)
    runs = []
    for workers in (1, 7, None):
        dataset = pipeline(source, image_size=(16, 16), batch_size=4, sampler="over", augment=augment, workers=workers)
        runs.append([content(dataset) for _ in range(2)])
    assert runs[0] == runs[1] == runs[2]
    assert runs[0][0] != runs[0][1]


def test_a_sampler_says_once_what_it_does(capsys):
    source = arrays(12, positives=3)
    dataset = pipeline(source, image_size=(8, 8), batch_size=3, sampler="under")
    _ = [list(dataset) for _ in range(2)]
    assert capsys.readouterr().out.splitlines() == [
        "under-sampling: 3 foreground + 3 of 9 empty images per epoch (50 % foreground; natural 25 %), "
        "drawn anew each epoch, seed 0",
        "6 unique images per epoch, 0 repeats: every image at most once",
    ]
    pipeline(source, image_size=(8, 8), batch_size=3)
    assert capsys.readouterr().out == ""


def test_balanced_batches_are_balanced():
    dataset = pipeline(
        arrays(30, positives=7), image_size=(16, 16), batch_size=4, sampler="under", balanced_batches=True
    )
    assert len(dataset) == 4
    for _, masks in dataset:
        assert 2 * int(tf.reduce_any(masks == 1, axis=(1, 2)).numpy().sum()) == len(masks)


def test_the_natural_sampler_looks_at_no_mask_to_start():
    source = arrays(6)
    pipeline(source, image_size=(8, 8), batch_size=2, augment=["flip"])
    assert source._reader.reads == {"image": 1, "mask": 0}


class Seen(keras.layers.Layer):
    """Identity that notes which samples it is shown."""

    def __init__(self):
        super().__init__()
        self.log = []

    def call(self, images):
        tf.py_function(lambda x: self.log.extend(x.numpy()[:, 0, 0, 0].astype(int).tolist()), [images], [])
        return images


def fit(dataset, epochs, initial_epoch=0):
    keras.utils.set_random_seed(0)
    seen = Seen()
    model = keras.Sequential([keras.Input((8, 8, 1)), seen, keras.layers.Conv2D(1, 1)])
    model.compile("sgd", "mse")
    pin = kz.data.PinEpoch(dataset)
    model.fit(dataset, epochs=epochs, initial_epoch=initial_epoch, callbacks=[pin], verbose=0)
    return seen.log


def test_a_resumed_training_sees_the_same_samples():
    source = arrays(10)

    def make(**options):
        return pipeline(source, image_size=(8, 8), batch_size=4, shuffle=True, seed=2, **options)

    whole = fit(make(), 4)
    assert [whole[i : i + 10] for i in (0, 10, 20, 30)] == [
        Order(size=10, seed=2)(epoch).tolist() for epoch in range(4)
    ]
    assert fit(make(), 4, initial_epoch=2) == whole[20:]
    dataset = make()
    _ = next(iter(dataset))  # one iterator too many, as some backends open
    assert fit(dataset, 2) == whole[:20]


def test_going_on_in_the_middle_of_an_epoch():
    source = kz.data.sources.synthetic(11, image_size=(16, 16))

    def make(**options):
        dataset = pipeline(source, image_size=(16, 16), batch_size=2, augment=["rotate", "noise"], seed=3, **options)
        kz.data.PinEpoch(dataset).on_epoch_begin(5)
        return dataset

    rest = make(skip_batches=4)
    assert len(rest) == 2
    assert content(rest) == content(make())[4:]
    with pytest.raises(ValueError, match="An epoch of 11 samples has no batch: batch_size=2, skip_batches=6"):
        make(skip_batches=6)


def test_pin_epoch_wants_the_dataset_itself():
    dataset = pipeline(arrays(4), image_size=(8, 8), batch_size=2)
    with pytest.raises(ValueError, match="without a further map, take or repeat; received _TakeDataset"):
        kz.data.PinEpoch(dataset.take(1))


OTHER_BACKENDS = """
import json, keras, numpy as np
import kerazoo as kz
from kerazoo.data.batches.epochs import epochs_of
from support.data_fixtures import arrays

dataset = kz.data.pipeline(
    arrays(8), image_size=(8, 8), batch_size=4, augment=["flip", "rotate", "gamma", "noise"], seed=1,
    outputs=("mask", "label"),
)
inputs = keras.Input((8, 8, 1))
features = keras.layers.Conv2D(1, 1)(inputs)
model = keras.Model(inputs, {"mask": features[..., 0], "label": keras.layers.GlobalAveragePooling2D()(features)})
model.compile("sgd", {"mask": "mse", "label": "mse"})
epochs = []
class Log(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        epochs.append([epoch, epochs_of(dataset).counter.pinned])
model.fit(dataset, epochs=6, initial_epoch=4, callbacks=[kz.data.PinEpoch(dataset), Log()], verbose=0)
batches = [[float(np.asarray(x).astype("float64").sum()), int(np.asarray(y["mask"]).sum())] for x, y in dataset]
print(json.dumps([keras.backend.backend(), epochs, batches]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_get_the_same_batches(backend):
    outputs = []
    for name in (backend, "tensorflow"):
        environment = {**os.environ, "KERAS_BACKEND": name, "PYTHONPATH": os.pathsep.join(["tests", "."])}
        run = subprocess.run([sys.executable, "-c", OTHER_BACKENDS], capture_output=True, text=True, env=environment)
        assert run.returncode == 0, run.stderr[-2000:]
        outputs.append(__import__("json").loads(run.stdout.splitlines()[-1]))
    assert [output[0] for output in outputs] == [backend, "tensorflow"]
    assert outputs[0][1:] == outputs[1][1:]
    assert outputs[0][1] == [[4, 4], [5, 5]]


# --- cache ---


def test_memory_cache_decodes_once():
    source = arrays(6)
    dataset = pipeline(source, image_size=(8, 8), batch_size=4, cache="memory", shuffle=True)
    plain = pipeline(arrays(6), image_size=(8, 8), batch_size=4, shuffle=True)
    assert [content(dataset) for _ in range(3)] == [content(plain) for _ in range(3)]
    assert source._reader.reads["mask"] == 6


def test_directory_cache_is_found_again(tmp_path):
    first, second = arrays(6), arrays(6)
    made = content(pipeline(first, image_size=(8, 8), batch_size=4, cache=tmp_path / "cache"))
    assert content(pipeline(second, image_size=(8, 8), batch_size=4, cache=tmp_path / "cache")) == made
    assert second._reader.reads["mask"] == 0
    assert made == content(pipeline(arrays(6), image_size=(8, 8), batch_size=4))


@pytest.mark.parametrize(
    ("changed", "options"),
    [
        (arrays(6, version="2"), {}),
        (arrays(6), {"image_size": (8, 9)}),
        (arrays(6), {"channels": 3}),
        (arrays(6).subset([1, 0, 2, 3, 4, 5]), {}),
    ],
    ids=["data", "size", "channels", "order"],
)
def test_directory_cache_of_other_samples_is_refused(tmp_path, changed, options):
    made = pipeline(arrays(6), image_size=(8, 8), batch_size=4, cache=tmp_path)
    _ = list(made)
    with pytest.raises(ValueError, match="was made from other images, or another image_size or channels. Delete it"):
        pipeline(changed, **{"image_size": (8, 8), "batch_size": 4, "cache": tmp_path, **options})


@pytest.mark.parametrize(
    ("name", "keep", "fault"),
    [
        ("cache.json", 20, r"cache\.json is no JSON"),
        ("cache.json", None, r"it holds arrays without a cache\.json"),
        ("images.npy", 150, r"images\.npy cannot be opened"),
        ("there.npy", None, r"there\.npy cannot be opened"),
    ],
)
def test_a_damaged_directory_cache_is_refused(tmp_path, name, keep, fault):
    _ = list(pipeline(arrays(6), image_size=(8, 8), batch_size=4, cache=tmp_path))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    if keep is not None:
        (tmp_path / name).write_bytes(content[:keep])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=rf"The cache .* is damaged, or no cache: {fault}.* Delete it, or pass"):
        pipeline(arrays(6), image_size=(8, 8), batch_size=4, cache=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_directory_cache_vouches_for_its_arrays_last(tmp_path, monkeypatch):
    """Killed while it writes cache.json, it leaves none."""

    def die(path, text):
        path.write_bytes(text[:5].encode())
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.write_text", die)
    with pytest.raises(KeyboardInterrupt):
        pipeline(arrays(6), image_size=(8, 8), batch_size=4, cache=tmp_path)
    assert not (tmp_path / "cache.json").exists()
    assert (tmp_path / "there.npy").exists()


def test_directory_cache_needs_a_size(tmp_path):
    with pytest.raises(ValueError, match="A cache in a directory needs `image_size`"):
        pipeline(arrays(6), image_size=None, batch_size=1, cache=tmp_path)


# --- errors ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 5, "drop_remainder": True}, "An epoch of 4 samples has no batch"),
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1, received 0"),
        ({"batch_size": 2.0}, "`batch_size` must be a whole number of at least 1, received 2.0: write 2"),
        ({"image_size": (0, 8)}, r"`image_size` must be \(height, width\) in pixels or None, received \(0, 8\)"),
        ({"sampler": "up"}, "`sampler` must be one of"),
        ({"shuffle": 1000}, r"`shuffle` must be one of \(True, False\), received 1000"),
        ({"augment": ["flop"]}, "Did you mean 'flip'"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        pipeline(arrays(4), **{"image_size": (8, 8), "batch_size": 2, **options})


def test_a_split_without_foreground_cannot_be_balanced():
    with pytest.raises(ValueError, match="none of the 4 images is with foreground"):
        pipeline(arrays(4, positives=0), image_size=(8, 8), batch_size=2, sampler="under")


def test_a_corrupt_file_is_named_from_inside_tensorflow(tmp_path):
    for name in "ab":
        write(tmp_path / f"{name}.jpg", np.zeros((8, 8), np.uint8))
        write(tmp_path / f"{name}.png", np.zeros((8, 8), np.uint8))
    (tmp_path / "b.jpg").write_bytes(b"broken")
    dataset = pipeline(kz.data.sources.folder(tmp_path), image_size=(8, 8), batch_size=1)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"ValueError: Cannot read .*b\.jpg: .* restore it or remove it"
    ):
        list(dataset)


def test_images_that_do_not_fit_into_one_batch_are_named(tmp_path):
    write(tmp_path / "a.png", np.zeros((8, 8), np.uint8))
    write(tmp_path / "b.png", np.zeros((8, 8, 3), np.uint8))
    for name in "ab":
        write(tmp_path / f"{name}_mask.png", np.zeros((8, 8), np.uint8))
    source = kz.data.sources.folder(tmp_path, mask_suffix="_mask.png")
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"Image 'b' has 3 channels .* Pass channels=1 or channels=3"
    ):
        list(pipeline(source, image_size=(8, 8), batch_size=2))
    assert len(list(pipeline(source, image_size=(8, 8), batch_size=2, channels=3))) == 1
    write(tmp_path / "b.png", np.zeros((8, 8), np.uint16))
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"Image 'b' is uint16 and the first of the source is uint8"
    ):
        list(pipeline(source, image_size=(8, 8), batch_size=2))


def test_the_function_hides_its_module():
    import kerazoo.data.batches.pipeline

    assert callable(kerazoo.data.pipeline)
