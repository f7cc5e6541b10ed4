"""Pretrained weights of encoders: from the catalog or a file, of ours, of Keras or of PyTorch."""

import os
import warnings
from abc import abstractmethod
from pathlib import Path
from typing import Any

import keras

from kerazoo.checkpoints import catalog, download, tensors
from kerazoo.encoders.preprocessing import normalize
from kerazoo.encoders.stem import adapt_stem
from kerazoo.types import TORCH, Encoder, Tensor

WEIGHTS_SUFFIX = ".weights.h5"
"""Ending of the files that an encoder's own `save_weights` writes."""

CLASSIFIER_SUFFIX = ".h5"
"""Ending of the files of keras.applications, such as vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5."""

CLASSIFIERS = ("fc.*", "head.*", "pre_logits.*", "classifier.*", "last_linear.*")
"""What PyTorch's checkpoints of classifiers hold beyond the encoder: timm, torchvision and pretrained-models."""


class StateDictEncoder(Encoder):
    """An encoder whose layers follow the names of a PyTorch implementation, and whose weights its files hold."""

    weight_suffixes = tensors.SUFFIXES

    def preprocess(self, image: Tensor) -> Tensor:
        return normalize(image, TORCH)

    @abstractmethod
    def state_dict_name(self, path: str) -> str:
        """Name of the module in the state dict that a layer's weights come from.

        Args:
            path: Of a weight, without its own name: "layer1_0_conv1", "layer1_0_se/squeeze".

        Returns: the name, such as "layer1.0.conv1" or "layer1.0.se.fc1".
        """
        ...

    def state_dict_alias(self, tensor: str) -> str:
        """Name that `state_dict_name` gives to a tensor of a file whose names are those of another implementation."""
        return tensor

    def state_dict_beyond(self, depth: int) -> tuple[str, ...]:
        """Names of the modules that come after the first `depth` levels."""
        return ()

    def load_pretrained(self, model: keras.Model, path: Path) -> None:
        """Fill the model; what the file has of deeper levels and of the classifier may be left over."""
        deeper = self.state_dict_beyond(len(model.outputs))
        tensors.assign(
            model,
            tensors.read(path).renamed(self.state_dict_alias),
            self.state_dict_name,
            allow_unexpected=(*CLASSIFIERS, *(f"{module}.*" for module in deeper)),
            fit_stem=adapt_stem,
            source=path.name,
        )


def load_weights(model: keras.Model, part: Any, weights: str | Path) -> None:
    """Fill an encoder with trained weights, strictly: every tensor has to fit.

    Args:
        model: From an image to levels of `part`, or to all of them and the logits of its `top`.
        part: The encoder.
        weights: A name of the catalog, "imagenet" or a tag with or without the encoder's name; or the path of a file: a
            `.weights.h5` file of this encoder, or one that ends in one of its `weight_suffixes`.

    Raises:
        ValueError: there are no weights of that name for `part`, or the file does not fit the architecture.
        FileNotFoundError: there is no file at `weights`.
        OSError: the weights could not be downloaded.
    """
    if not isinstance(weights, (str, Path)):
        raise ValueError(
            "`weights` must be None, the name of weights such as 'imagenet', or the path of a file; received "
            f"{weights!r}."
        )
    path = Path(weights) if _is_path(weights) else _downloaded(part.arch, str(weights))
    suffixes = (WEIGHTS_SUFFIX, *part.weight_suffixes)
    if not path.name.endswith(suffixes):
        raise ValueError(f"weights={str(weights)!r}: this encoder takes files that end in {', '.join(suffixes)}.")
    if not path.is_file():
        raise FileNotFoundError(f"weights={str(weights)!r}: there is no such file.")
    if not path.name.endswith(WEIGHTS_SUFFIX):
        part.load_pretrained(model, path)
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns of layers that the file does not have
            model.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        raise misfit(path, error) from error


def misfit(path: Path, error: Exception) -> ValueError:
    """The error for a file that Keras cannot read into an encoder."""
    return ValueError(f"{path.name} does not hold the weights of this encoder: {error}")


def _is_path(weights: str | Path) -> bool:
    """Whether a file is meant: names of weights have no slash and none of the endings."""
    endings = (WEIGHTS_SUFFIX, CLASSIFIER_SUFFIX, *tensors.SUFFIXES)
    return isinstance(weights, Path) or weights.endswith(endings) or "/" in weights or os.sep in weights


def _downloaded(arch: str | None, weights: str) -> Path:
    return download.fetch(catalog.find(arch, weights))
