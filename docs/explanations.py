"""Draw docs/explanations_*.png: what EfficientNet-Lite0 with its ImageNet weights sees in three photos of scikit-image.

python docs/explanations.py
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

import kerazoo as kz

CLASSES = {"chelsea": 285, "coffee": 967, "rocket": 657}
TRAINED_FOR = (224, 224)
COLORS = 255
"""Of the palette that keeps a picture below 100 kB."""


def photo(name: str, height: int) -> np.ndarray:
    """A photo that ships with scikit-image, bicubic to a height in pixels."""
    import skimage.data

    picture = Image.fromarray(getattr(skimage.data, name)())
    size = (round(picture.width * height / picture.height), height)
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC))


def upsampled(grid: np.ndarray, shape: tuple[int, ...], window: int) -> np.ndarray:
    """A map of windows, `(h, w)`, as large as the photo, each value in the middle of its window of 32-pixel cells."""
    edge = (window - 1) // 2
    padded = np.pad(grid, edge, mode="edge")
    return np.asarray(Image.fromarray(padded.astype("float32")).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def figure(rows: int, columns: int, width: float) -> tuple[Any, Any]:
    """Axes without ticks."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    drawn, axes = plt.subplots(
        rows, columns, figsize=(width, 0.79 * rows * width / columns), layout="constrained", squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    return drawn, axes


def overlay(axis: Any, picture: np.ndarray, heat: np.ndarray, title: str) -> None:
    """A photo in gray below a map in color, from 0 to the highest value of the map."""
    axis.imshow(picture.mean(axis=-1), cmap="gray")
    axis.imshow(heat, cmap="inferno", alpha=0.6, vmin=0, vmax=heat.max())
    axis.set_title(title, fontsize=8)


def save(drawn: Any, name: str) -> Path:
    """Write a figure as a small PNG."""
    drawn.canvas.draw()
    pixels = np.asarray(drawn.canvas.buffer_rgba())[..., :3]
    path = Path(__file__).with_name(f"explanations_{name}.png")
    Image.fromarray(pixels).quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
    return path


def heat_maps(classifier: keras.Model) -> Path:
    """Every window of a larger photo classified: the photo, and the probability of its class in each window."""
    windows = kz.pretrained.convolutionalise(classifier, image_size=TRAINED_FOR)
    names = kz.pretrained.imagenet_classes()
    drawn, axes = figure(len(CLASSES), 2, 4.4)
    for (left, right), (name, target) in zip(axes, CLASSES.items(), strict=True):
        picture = photo(name, 448)
        logits = windows.predict_on_batch(picture[None])
        probs = keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0, ..., target]
        left.imshow(picture)
        left.set_title(f"{picture.shape[1]}×{picture.shape[0]}, {probs.size} windows", fontsize=8)
        label = f"{names[target]}, at most {probs.max():.2f}"
        overlay(right, picture, upsampled(probs, picture.shape, 7), label)
    return save(drawn, "heat_maps")


def class_activation_maps(classifier: keras.Model) -> Path:
    """CAM, and Grad-CAM at two layers, of the class of each photo."""
    cam = kz.pretrained.convolutionalise(classifier, image_size=(32, 32))  # every window is one cell of the last map
    names = kz.pretrained.imagenet_classes()
    drawn, axes = figure(len(CLASSES), 4, 6.6)
    for row, (name, target) in zip(axes, CLASSES.items(), strict=True):
        picture = photo(name, 224)
        row[0].imshow(picture)
        row[0].set_title(names[target], fontsize=8)
        maps = np.maximum(cam.predict_on_batch(picture[None])[0, ..., target], 0)
        overlay(row[1], picture, upsampled(maps, picture.shape, 1), "CAM")
        for axis, layer in zip(row[2:], ("encoder", "encoder/blocks_4_2_add"), strict=True):
            heat = kz.explain.grad_cam(classifier, picture, layer=layer, target=target)
            where = "stride 32" if layer == "encoder" else "stride 16"
            overlay(axis, picture, heat, f"Grad-CAM, {where}")
    return save(drawn, "class_activation_maps")


def first_filters(classifier: keras.Model) -> Path:
    """The filters of the first convolution, gray where a weight is 0."""
    filters = kz.explain.first_filters(classifier)
    drawn, axes = figure(2, len(filters) // 2, 8)
    drawn.set_size_inches(8, 1.2)
    for axis, pixels in zip(axes.flat, filters, strict=True):
        axis.imshow(pixels)
    return save(drawn, "first_filters")


if __name__ == "__main__":
    model = kz.classifier("efficientnet_lite0", weights="imagenet", top="imagenet")
    for draw in (heat_maps, class_activation_maps, first_filters):
        print(f"wrote {draw(model)}")
