"""Write `unpooling_decoders.npz`: small FCN, SegNet, DeconvNet and U-Net, wired by hand in PyTorch as their papers say.

Run in an environment with PyTorch and torchvision: `PYTHONPATH=tests python tests/golden/make_unpooling_decoders.py`.
Weights are by `golden_rule.fill`, by the names of our layers (of torchvision's modules in the encoder), images by
`golden_rule.image`, as `tests/decoders/test_fcn.py` and `tests/decoders/test_switches.py` make them. `fcn_head` and the
encoder are torchvision's own code.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from support.golden_rule import fill, image
from torchvision.models.segmentation.fcn import FCNHead
from torchvision.models.vgg import make_layers

WIDTHS = (4, 5, 6, 7, 8)
"""Channels of the encoders; VGG has one convolution per stage, two in the third."""


def value(name, *shape):
    return torch.from_numpy(fill(name, shape))


def filled(module, prefix):
    module.load_state_dict({name: value(prefix + name, *tensor.shape) for name, tensor in module.state_dict().items()})
    return module.eval()


def nchw(array):
    return torch.from_numpy(array).permute(0, 3, 1, 2)


def conv(x, name, filters, size=3, *, padding=0, bias=False):
    return F.conv2d(
        x,
        value(f"{name}.weight", filters, x.shape[1], size, size),
        value(f"{name}.bias", filters) if bias else None,
        padding=padding,
    )


def transpose(x, name, filters, size, *, stride=1, padding=0, bias=False):
    kernel = value(f"{name}.weight", x.shape[1], filters, size, size)
    return F.conv_transpose2d(
        x, kernel, value(f"{name}.bias", filters) if bias else None, stride=stride, padding=padding
    )


def bn_relu(x, name):
    mean, variance, scale, shift = (
        value(f"{name}.{key}", x.shape[1]) for key in ("running_mean", "running_var", "weight", "bias")
    )
    return F.relu(F.batch_norm(x, mean, variance, scale, shift, eps=1e-5))


def vgg(seed, *size):
    """Maps before each pooling, their switches, and what the last pooling gives."""
    a, b, c, d, e = WIDTHS
    x = nchw(image(seed, (1, *size, 3)))
    befores, switches = [], []
    for module in filled(make_layers([a, "M", b, "M", c, c, "M", d, "M", e, "M"], batch_norm=True), "features."):
        if isinstance(module, torch.nn.MaxPool2d):
            befores.append(x)
            x, where = F.max_pool2d(x, 2, return_indices=True)
            switches.append(where)
        else:
            x = module(x)
    return befores, switches, x


def segnet(x, befores, switches):
    for i in reversed(range(5)):
        x = F.max_unpool2d(x, switches[i], 2)
        last = 2 if i < 2 else 3  # VGG-16's numbers of convolutions
        for j in range(1, last + 1):
            width = WIDTHS[max(i - 1, 0)] if j == last else WIDTHS[i]
            x = bn_relu(conv(x, f"d{2**i}_fuse{j}_conv", width, padding=1), f"d{2**i}_fuse{j}_bn")
        assert x.shape[2:] == befores[i].shape[2:]
    return x


def deconvnet(x, befores, switches, *, padding, size):
    for name, kernel in (("d_fc6", size), ("d_fc7", 1)):
        x = bn_relu(conv(x, f"{name}_conv", 9, kernel, padding=padding if kernel > 1 else 0), f"{name}_bn")
    x = bn_relu(transpose(x, "d_fc6_deconv_conv", WIDTHS[-1], size, padding=padding), "d_fc6_deconv_bn")
    for i in reversed(range(5)):
        x = F.max_unpool2d(x, switches[i], 2)
        for j in (1, 2):
            name = f"d{2**i}_deconv{j}"
            x = bn_relu(transpose(x, f"{name}_conv", WIDTHS[max(i - (j == 2), 0)], 3, padding=1), f"{name}_bn")
    return x


def fcn(befores, pooled):
    """FCN-8s over fully connected layers of 9 channels, scores of 3."""
    x = F.relu(conv(pooled, "d_fc6", 9, 7, padding=3, bias=True))
    x = F.relu(conv(x, "d_fc7", 9, 1, bias=True))
    x = conv(x, "d32_score", 3, 1, bias=True)
    for stride, skip in ((16, befores[4]), (8, befores[3])):
        x = transpose(x, f"d{stride}_up", 3, 4, stride=2, padding=1)
        x = x + conv(skip, f"d{stride}_score", 3, 1, bias=True)
    return x


def unet():
    """Ronneberger's network on an image of 32 x 48 pixels, mirrored by 94: its logits lose 92 on each side."""
    array = image(12, (1, 32, 48, 3))
    x = nchw(np.pad(array, ((0, 0), (94, 94), (94, 94), (0, 0)), mode="reflect"))
    skips = []
    for position, width in enumerate(WIDTHS):
        if position:
            skips.append(x)
            x = F.max_pool2d(x, 2)
        for i in (1, 2):
            x = F.relu(conv(x, f"s{2**position}_conv{i}_conv", width, bias=True))
    for position in reversed(range(4)):
        name = f"d{2**position}"
        x = transpose(x, f"{name}_up", WIDTHS[position], 2, stride=2, bias=True)
        skip = skips[position]
        top, left = ((a - b) // 2 for a, b in zip(skip.shape[2:], x.shape[2:], strict=True))
        x = torch.cat([x, skip[:, :, top : top + x.shape[2], left : left + x.shape[3]]], 1)
        for i in (1, 2):
            x = F.relu(conv(x, f"{name}_conv{i}_conv", WIDTHS[position], bias=True))
    return x[:, :, 2:-2, 2:-2]


befores, switches, pooled = vgg(11, 64, 96)
outputs = {f"vgg_stride{2**i}": level for i, level in enumerate([*befores, pooled]) if i > 1}
outputs["segnet"] = segnet(pooled, befores, switches)
outputs["deconvnet"] = deconvnet(pooled, befores, switches, padding=3, size=7)
large_befores, large_switches, large_pooled = vgg(14, 96, 128)
outputs["deconvnet_valid"] = deconvnet(large_pooled, large_befores, large_switches, padding=0, size=3)
outputs["fcn"] = fcn(befores, pooled)
outputs["fcn_head"] = filled(FCNHead(12, 4), "classifier.")(nchw(image(13, (2, 5, 7, 12))))
outputs["unet"] = unet()
arrays = {name: tensor.detach().permute(0, 2, 3, 1).numpy() for name, tensor in outputs.items()}
for name in ("segnet", "deconvnet", "deconvnet_valid", "unet"):
    arrays[name] = arrays[name][:, ::3, ::3]  # every third pixel of every third row
np.savez_compressed(Path(__file__).parent / "unpooling_decoders.npz", **arrays)
