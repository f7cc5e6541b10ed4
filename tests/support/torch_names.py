"""Fill our models from PyTorch tensor names, for the golden tests: a rule gives every tensor."""

import re

import keras
import numpy as np

from support.golden_rule import fill

BATCHNORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def fill_layers(model: keras.Model, state_dict_name) -> None:
    """Set every weight of `model` to `golden_rule.fill` of the reference's tensor name.

    Args:
        model: Whose layers are filled, nested ones too.
        state_dict_name: Function from a layer's name to the reference's module ("layer1_0_conv1" to "layer1.0.conv1").
    """
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            fill_layers(layer, state_dict_name)
        elif layer.weights:
            layer.set_weights([_value(state_dict_name(layer.name), weight) for weight in layer.weights])


def _value(module: str, weight) -> np.ndarray:
    shape = tuple(weight.shape)
    if weight.name == "kernel":
        return fill(f"{module}.weight", (shape[3], shape[2], *shape[:2])).transpose(2, 3, 1, 0)
    return fill(f"{module}.{BATCHNORM.get(weight.name, weight.name)}", shape)


def resnet_module(layer: str) -> str:
    """timm's and torchvision's module of a layer of `kerazoo.encoders.ResNet`."""
    layer = layer.replace("downsample_conv", "downsample.0").replace("downsample_bn", "downsample.1")
    return re.sub(r"^(layer\d)_(\d+)_", r"\1.\2.", layer)
