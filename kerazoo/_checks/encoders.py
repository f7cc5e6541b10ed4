"""Contract checks of encoders. They return what they measured; see `kerazoo.testing`."""

import functools
from typing import Any

import keras
import numpy as np

from kerazoo._checks.models import EVEN_SIZE, ODD_SIZE, as_list, check_reload, random_image
from kerazoo.encoders import as_encoder, strides
from kerazoo.encoders.build import build_encoder


@functools.lru_cache(maxsize=1)
def _any_size(encoder: Any) -> tuple[keras.Model, tuple[int, ...]]:
    """The encoder for images of any size, and its strides. Kept for the next check: large ones take a while."""
    return _build(encoder, image_shape=(None, None, 3))


def check_encoder_pyramid(encoder: Any) -> tuple[int, ...]:
    """Levels run fine to coarse, and the one at stride s has ceil(size / s) rows and columns, for odd sizes too.

    Returns: the strides.
    """
    model, declared = _any_size(encoder)
    assert list(declared) == sorted(declared), f"strides are not fine to coarse: {declared}"
    assert strides(model) == list(declared), f"declared strides {declared}, measured {strides(model)}"
    for size in (ODD_SIZE, EVEN_SIZE, ODD_SIZE):
        for stride, level in zip(declared, as_list(model.predict_on_batch(random_image(*size, 3))), strict=True):
            expected = tuple(-(-n // stride) for n in size)
            assert level.shape[1:3] == expected, f"stride {stride} of {size}: {level.shape[1:3]}, expected {expected}"
            assert np.isfinite(level).all(), f"stride {stride}: not finite"
    return declared


def check_encoder_channels(encoder: Any) -> tuple[int, ...]:
    """Raw images of one and of four channels are accepted; seen at the finest level, as later ones read no image.

    Returns: the numbers of channels.
    """
    for channels in (1, 4):
        model, _ = _build(encoder, image_shape=(32, 32, channels), preprocessing=True, depth=1)
        for level in as_list(model.predict_on_batch(255 * random_image(32, 32, channels))):
            assert np.isfinite(level).all(), f"{channels} channels: not finite"
    return (1, 4)


def check_encoder_depth(encoder: Any) -> None:
    """`depth` keeps the finest levels, and more than there are raise a ValueError that says how many there are."""
    _, every = _any_size(encoder)
    depth = max(1, len(every) - 1)
    _, some = _build(encoder, image_shape=(32, 32, 3), depth=depth)
    assert some == every[:depth], f"depth={depth} of {every} gave {some}"
    more = len(every) + 1
    refusal = _build_or_refusal(encoder, depth=more)
    assert f"received depth={more}" in str(refusal), f"depth={more} of {every} gave: {refusal}"


def check_encoder_dilation(encoder: Any) -> tuple[int, ...]:
    """A smaller output stride caps the strides and keeps every weight, or raises a ValueError that says why.

    Returns: the output strides below the encoder's own that it has, of 16 and 8.
    """
    model, every = _any_size(encoder)
    reached = []
    for output_stride in (16, 8):
        if output_stride >= every[-1]:
            continue
        built = _build_or_refusal(encoder, output_stride=output_stride)
        if isinstance(built, ValueError):
            assert "`output_stride` is" in str(built), f"the error does not say why: {built}"
            continue
        dilated, declared = built
        expected = [min(stride, output_stride) for stride in every]
        assert strides(dilated) == list(declared) == expected, f"{declared}, expected {expected}"
        fit = [weight.shape for weight in dilated.weights] == [weight.shape for weight in model.weights]
        assert fit, f"output_stride={output_stride}: the weights of the strided encoder do not fit"
        reached.append(output_stride)
    return tuple(reached)


def check_encoder_reload(encoder: Any) -> None:
    """Names are unique, and a model read back from its file gives the same features."""
    model, _ = _any_size(encoder)
    check_reload(model, random_image(*EVEN_SIZE, 3))


def _build(encoder: Any, **arguments: Any) -> tuple[keras.Model, tuple[int, ...]]:
    built = build_encoder(as_encoder(encoder), **arguments)
    return built.model, built.strides


def _build_or_refusal(encoder: Any, **arguments: Any) -> tuple[keras.Model, tuple[int, ...]] | ValueError:
    try:
        return _build(encoder, image_shape=(None, None, 3), **arguments)
    except ValueError as error:
        return error


CHECKS = (
    check_encoder_pyramid,
    check_encoder_channels,
    check_encoder_depth,
    check_encoder_dilation,
    check_encoder_reload,
)
