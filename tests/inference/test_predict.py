"""Prediction: any image, any size, tiles, flips, decision rules and folders, against plain NumPy."""

import csv

import keras
import numpy as np
import pytest
from PIL import Image

import kerazoo as kz
from kerazoo.data.formats.images import resize_image
from kerazoo.inference import DecisionRule
from kerazoo.inference.tiling import Tiling

pytestmark = pytest.mark.backends


def local_model(num_classes=1, channels=1, *, size=(None, None), label=False, flip_sensitive=False):
    """Logits that depend on a 3x3 neighborhood: `(mean - 128) / 16`, and for further classes multiples of it."""
    image = keras.Input((*size, channels))
    kernel = np.ones((3, 3, channels, num_classes), "float32") / (9 * channels * 16) * np.arange(1, num_classes + 1)
    if flip_sensitive:
        kernel[:, 0] = 0
    convolution = keras.layers.Conv2D(num_classes, 3, padding="same", dtype="float32")
    logits = convolution(image)
    convolution.set_weights([kernel, -8.0 * np.arange(1, num_classes + 1)])
    outputs = logits
    if label:
        outputs = {"mask": logits, "label": keras.layers.GlobalMaxPooling2D(dtype="float32")(logits)}
    return keras.Model(image, outputs)


def picture(height, width, channels=1, seed=0):
    """Smooth texture with bright blobs, uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((height // 8 + 2, width // 8 + 2, channels))
    image = np.kron(coarse, np.ones((8, 8, 1)))[:height, :width]
    return np.uint8(255 * image)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def expected(model, image):
    return sigmoid(np.asarray(keras.ops.convert_to_numpy(model(image[None].astype("float32"))))[0])


def test_images_of_any_size_come_back_in_order_at_their_size():
    model = local_model()
    images = [picture(40, 33), picture(17, 64), picture(40, 33, seed=1)[..., 0], picture(17, 64, seed=2)]
    predictions = kz.inference.predict(model, images, batch_size=2)
    assert [prediction.id for prediction in predictions] == ["0", "1", "2", "3"]
    for image, prediction in zip(images, predictions, strict=True):
        truth = expected(model, image if image.ndim == 3 else image[..., None])
        assert prediction.mask.shape == image.shape[:2]
        assert prediction.mask.dtype == np.uint8
        assert prediction.probability.dtype == np.float32
        np.testing.assert_allclose(prediction.probability, truth, atol=1e-5)
        np.testing.assert_array_equal(prediction.mask, truth[..., 0] > 0.5)
        assert prediction.score == pytest.approx(truth.max(), abs=1e-5)
        assert prediction.label is None


def test_array_source_and_list_agree():
    model = local_model(channels=1)
    source = kz.data.sources.synthetic(3, seed=0, image_size=(32, 32))
    images = [source.image(i) for i in range(3)]
    from_source = kz.inference.predict(model, source)
    from_array = kz.inference.predict(model, np.stack(images))
    assert [prediction.id for prediction in from_source] == source.ids
    for one, other in zip(from_source, from_array, strict=True):
        np.testing.assert_array_equal(one.probability, other.probability)


def test_several_classes_and_label_head():
    model = local_model(3, 3, label=True)
    image = picture(24, 24, 3)
    (prediction,) = kz.inference.predict(model, [image])
    outputs = model(image[None].astype("float32"))
    logits = np.asarray(keras.ops.convert_to_numpy(outputs["mask"]))[0]
    np.testing.assert_array_equal(prediction.mask, logits.argmax(axis=-1))
    np.testing.assert_allclose(prediction.probability.sum(axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(
        prediction.label, sigmoid(np.asarray(keras.ops.convert_to_numpy(outputs["label"]))[0]), atol=1e-5
    )
    assert prediction.score == pytest.approx(prediction.probability[..., 1:].max())


def test_an_empty_tile_does_not_make_an_image_empty():
    model = local_model(3, 3, label=True)
    image = picture(128, 64, 3)
    (tiled,) = kz.inference.predict(model, [image], tile=(64, 64), overlap=0)
    halves = [prediction.label for prediction in kz.inference.predict(model, [image[:64], image[64:]])]
    np.testing.assert_allclose(tiled.label[0], np.min(halves, axis=0)[0], atol=1e-5)
    np.testing.assert_allclose(tiled.label[1:], np.max(halves, axis=0)[1:], atol=1e-5)


def test_low_precision_models_give_float32():
    keras.config.set_dtype_policy("bfloat16")
    image = keras.Input((None, None, 1))
    logits = keras.layers.Conv2D(2, 3, padding="same")(keras.layers.Rescaling(1 / 128)(image))
    model = keras.Model(image, {"mask": logits, "label": keras.layers.GlobalMaxPooling2D()(logits)})
    for prediction in kz.inference.predict(model, [picture(17, 20), picture(17, 20, seed=1)]):
        assert prediction.probability.dtype == prediction.label.dtype == np.float32
        np.testing.assert_allclose(prediction.probability.sum(axis=-1), 1, atol=1e-6)


def test_gray_images_become_rgb():
    gray = picture(16, 16)
    (prediction,) = kz.inference.predict(local_model(channels=3), [gray])
    np.testing.assert_allclose(prediction.probability, expected(local_model(), gray), atol=1e-5)


@pytest.mark.parametrize("image_size", [None, (20, 28)])
def test_16_bit_images_are_fed_as_the_pipeline_feeds_them(image_size):
    deep = np.random.default_rng(0).integers(0, 65536, (33, 47, 1)).astype("uint16")
    model = local_model()
    (prediction,) = kz.inference.predict(model, [deep], image_size=image_size)
    fed = deep.astype("float32") / 257
    fed = fed if image_size is None else resize_image(fed, image_size)
    assert 0 <= fed.min() < fed.max() <= 255
    assert prediction.score == pytest.approx(expected(model, fed).max(), abs=1e-5)
    if image_size is None:
        np.testing.assert_allclose(prediction.probability, expected(model, fed), atol=1e-5)


def test_probabilities_are_resized_back_before_the_threshold():
    image = picture(60, 90)
    (prediction,) = kz.inference.predict(local_model(), [image], image_size=(30, 30), threshold=0.4)
    assert prediction.probability.shape == (60, 90, 1)
    np.testing.assert_array_equal(prediction.mask, prediction.probability[..., 0] > 0.4)
    values = np.unique(np.round(prediction.probability, 6))
    assert len(values) > 30 * 30  # interpolated, not repeated
    small = resize_image(image, (30, 30))
    assert prediction.score == pytest.approx(expected(local_model(), small).max(), abs=1e-5)


@pytest.mark.parametrize("size", [(100, 230), (64, 64), (65, 300), (40, 130)])
def test_tiles_give_what_the_whole_image_gives(size):
    image = picture(*size)
    (whole,) = kz.inference.predict(local_model(), [image])
    (tiled,) = kz.inference.predict(local_model(), [image], tile=64, overlap=16, batch_size=3)
    np.testing.assert_allclose(tiled.probability, whole.probability, atol=2e-5)
    assert tiled.score == pytest.approx(whole.score, abs=2e-5)


def test_tiles_meet_the_grid_of_a_strided_model():
    """Patches of 16 pixels that do not look at their neighbors: any other offset of a tile would change everything."""
    image = keras.Input((None, None, 1))
    x = keras.layers.Rescaling(1 / 64, offset=-2, dtype="float32")(image)
    x = keras.layers.Conv2D(8, 16, strides=16, dtype="float32")(x)
    model = keras.Model(image, keras.layers.Conv2DTranspose(1, 16, strides=16, dtype="float32")(x))
    image = picture(160, 208)
    (whole,) = kz.inference.predict(model, [image])
    (tiled,) = kz.inference.predict(model, [image], tile=(80, 96), overlap=24)
    np.testing.assert_allclose(tiled.probability, whole.probability, atol=2e-5)


def test_tiles_of_a_model_with_a_fixed_size():
    image = picture(100, 70)
    (whole,) = kz.inference.predict(local_model(), [image])
    (tiled,) = kz.inference.predict(local_model(size=(64, 64)), [image], tile=64)
    np.testing.assert_allclose(tiled.probability, whole.probability, atol=2e-5)
    with pytest.raises(ValueError, match="the model takes tiles of 64 only"):
        kz.inference.predict(local_model(size=(64, 64)), [picture(40, 70)], tile=64)


def test_tiles_cover_overlap_and_stay_on_the_grid():
    tiling = Tiling(tile=(96, 64), overlap=24)
    spans = tiling.spans((301, 150))
    covered = np.zeros((301, 150), int)
    for rows, columns in spans:
        covered[rows, columns] += 1
        assert rows.start % 32 == columns.start % 32 == 0
        assert rows.stop - rows.start <= 96
        assert columns.stop - columns.start <= 64
    assert covered.min() == 1
    starts = sorted({rows.start for rows, _ in spans})
    assert max(np.diff(starts)) <= 96 - 24


def test_blending_fades_without_seams():
    tiling = Tiling(tile=(64, 64), overlap=32)
    spans = tiling.spans((64, 96))
    parts = [np.full((64, columns.stop - columns.start, 1), float(i)) for i, (_, columns) in enumerate(spans)]
    row = tiling.blend((64, 96), parts)[0, :, 0]
    assert row[0] == 0
    assert row[-1] == len(spans) - 1
    assert np.abs(np.diff(row)).max() < 0.15


def test_flip_averages_the_mirror_image():
    model = local_model(flip_sensitive=True)
    image = picture(32, 48)
    (plain,) = kz.inference.predict(model, [image])
    (mirror,) = kz.inference.predict(model, [image[:, ::-1]])
    (both,) = kz.inference.predict(model, [image], tta="flip")
    assert np.abs(plain.probability - mirror.probability[:, ::-1]).max() > 0.01
    np.testing.assert_allclose(both.probability, (plain.probability + mirror.probability[:, ::-1]) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, r"`pixel_threshold` is a probability and must be in \[0, 1\], received 1.5"),
        ({"threshold": 0.5, "rule": DecisionRule()}, "Give `threshold` or `rule`, not both"),
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1, received 0"),
        ({"batch_size": 2.5}, "`batch_size` must be a whole number of at least 1, received 2.5"),
        ({"tile": 64.0}, "`tile` must be a whole number of at least 1, received 64.0: write 64"),
        ({"tile": 64, "overlap": 8.0}, "`overlap` must be a whole number of at least 0, received 8.0: write 8"),
        ({"tta": "rotate"}, "`tta` must be None or 'flip', received 'rotate'"),
        ({"overlap": 8}, "received overlap=8 without `tile`"),
        ({"tile": 32}, "`tile` must be at least 64 pixels"),
        ({"tile": 64, "overlap": 40}, "`overlap` must be from 0 to half of the tile, 32 pixels; received 40"),
        ({"image_size": (0, 5)}, r"`image_size` must be \(height, width\)"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        kz.inference.predict(local_model(), [picture(16, 16)], **options)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([np.full((8, 8), np.nan, "float32")], "Image '0' holds NaN or infinity"),
        ([picture(8, 8), np.zeros((8, 8, 4), "uint8")], "Image '1': An image of 4 channels cannot become"),
        ([np.zeros((0, 8), "uint8")], "Image '0' must have shape"),
        (np.zeros((8, 8, 1), "uint8"), r"must have shape \(N, H, W, C\); received \(8, 8, 1\). For one image pass"),
    ],
)
def test_wrong_images_are_named(images, message):
    with pytest.raises(ValueError, match=message):
        kz.inference.predict(local_model(), images)


def test_wrong_models_are_named():
    with pytest.raises(ValueError, match=r"the model takes images of \(64, 64\) only. Pass image_size=\(64, 64\)"):
        kz.inference.predict(local_model(size=(64, 64)), [picture(40, 40)])
    image = keras.Input((None, None, 1))
    classifier = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))
    with pytest.raises(ValueError, match="`model` must return logits of the size of the image"):
        kz.inference.predict(classifier, [picture(8, 8)])
    with pytest.raises(TypeError, match="received str"):
        kz.inference.predict(local_model(), "images/")
    assert kz.inference.predict(local_model(), []) == []


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def folder(tmp_path):
    images = tmp_path / "images"
    (images / "b").mkdir(parents=True)
    Image.fromarray(picture(30, 40)[..., 0]).save(images / "a.png")
    Image.fromarray(picture(20, 25, 3)).save(images / "b" / "c.jpg")
    Image.fromarray(picture(24, 24)[..., 0].astype("uint16") * 257).save(images / "d.tif")
    (images / "notes.txt").write_text("not an image")
    return images


def test_folder_in_masks_and_overlays_out(folder, tmp_path):
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    done = []
    rows = kz.inference.predict_folder(
        local_model(), folder, tmp_path / "out", progress=lambda count, total: done.append((count, total))
    )
    assert [row["image"] for row in rows] == ["a.png", "b/c.jpg", "d.tif"]
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
    out = tmp_path / "out"
    mask = pixels(out / "a.png")
    np.testing.assert_array_equal(mask, kz.inference.predict(local_model(), [picture(30, 40)])[0].mask)
    overlay = pixels(out / "a_overlay.png")
    assert overlay.shape == (30, 40, 3)
    assert (overlay[mask > 0] != picture(30, 40)[mask > 0]).any()
    assert pixels(out / "b" / "c_overlay.png").shape == (20, 25, 3)
    with (out / "predictions.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert int(table[0]["foreground_pixels"]) == mask.sum()
    assert [row["error"] for row in table] == ["", "", ""]
    assert str(tmp_path) not in (out / "predictions.csv").read_text()


def test_folder_reads_images_as_the_source_of_the_training(tmp_path):
    (tmp_path / "images").mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    values = picture(24, 32)[..., 0].astype("uint16") * 16  # 12 bits
    Image.fromarray(values).save(tmp_path / "images" / "deep.tif")
    Image.fromarray(picture(24, 32)[..., 0]).save(tmp_path / "images" / "turned.jpg", exif=turned)
    reading = {"intensity_range": (100, 4000), "exif_orientation": False}
    rows = kz.inference.predict_folder(local_model(), tmp_path / "images", tmp_path / "out", **reading)
    scaled = np.clip((values.astype("float32") - 100) * (255 / 3900), 0, 255)
    np.testing.assert_array_equal(
        pixels(tmp_path / "out" / "deep.png"), kz.inference.predict(local_model(), [scaled])[0].mask
    )
    assert (rows[1]["height"], rows[1]["width"]) == (24, 32)
    rows = kz.inference.predict_folder(local_model(), tmp_path / "images", tmp_path / "plain")
    assert rows[0]["foreground_pixels"] == 0
    assert (rows[1]["height"], rows[1]["width"]) == (32, 24)
    with pytest.raises(ValueError, match=r"`intensity_range` must be \(low, high\) with low < high, received \(9, 9\)"):
        kz.inference.predict_folder(
            local_model(), tmp_path / "images", tmp_path / "no", intensity_range=(9, 9), on_error="skip"
        )


def test_folder_never_loses_a_file(folder, tmp_path):
    model = local_model()
    with pytest.raises(ValueError, match="`to` is the folder of the images"):
        kz.inference.predict_folder(model, folder, folder, overwrite=True)
    kz.inference.predict_folder(model, folder, folder / "out")
    with pytest.raises(FileExistsError, match=r"7 of the files to write exist in `to`, the first is 'a.png'"):
        kz.inference.predict_folder(model, folder, folder / "out")
    kz.inference.predict_folder(model, folder, folder / "out", overwrite=True)  # and does not read what it wrote
    Image.fromarray(picture(8, 8)[..., 0]).save(folder / "a.jpg")
    with pytest.raises(ValueError, match=r"'a.jpg' and 'a.png' of the folder would both be written to 'a.png'"):
        kz.inference.predict_folder(model, folder, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    rows = kz.inference.predict_folder(model, folder, tmp_path / "other", suffixes=(".jpg",), overlays=False)
    assert [row["image"] for row in rows] == ["a.jpg", "b/c.jpg"]
    assert not list((tmp_path / "other").rglob("*_overlay.png"))


def test_folder_names_what_it_cannot_read(folder, tmp_path):
    (folder / "b" / "broken.png").write_bytes((folder / "a.png").read_bytes()[:-60])
    with pytest.raises(ValueError, match=r"Cannot read .*broken.png"):
        kz.inference.predict_folder(local_model(), folder, tmp_path / "out")
    rows = kz.inference.predict_folder(local_model(), folder, tmp_path / "out", on_error="skip", overwrite=True)
    assert [row["image"] for row in rows] == ["a.png", "b/broken.png", "b/c.jpg", "d.tif"]
    assert rows[1]["error"].startswith("Cannot read b/broken.png")
    assert str(tmp_path) not in (tmp_path / "out" / "predictions.csv").read_text()
    with pytest.raises(FileNotFoundError, match="is no directory"):
        kz.inference.predict_folder(local_model(), folder / "absent", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"has no image; looked for \.png"):
        kz.inference.predict_folder(local_model(), tmp_path / "empty", tmp_path / "out")
