"""Files of timm on the Hugging Face Hub.

Names, licences, image sizes and preprocessing are those of timm 1.0.31 (`timm/models/resnet.py`, `convmixer.py`,
`vgg.py` and `efficientnet.py`, `default_cfgs`), the top-1 of its `results/results-imagenet.csv` at 0173a13, which lacks
resnet34.tv_in1k. timm's sources pin no commits and name no hashes of these files.

The EfficientNet-Lites are timm's `tf_efficientnet_lite…`, ported from the official checkpoints. Those were trained on
`(x - 127) / 128`, and that is what their records say; timm's configuration has `(x - 127.5) / 127.5`.
"""

from typing import Any

from kerazoo.checkpoints.record import Record
from kerazoo.types import BY_127_128


def _record(
    name: str,
    *,
    prefix: str = "",
    licence: str = "apache-2.0",
    top1: float | None = None,
    top1_size: int = 224,
    **facts: Any,
) -> Record:
    return Record(
        name=name,
        origin="timm",
        repo=f"timm/{prefix}{name}",
        file="model.safetensors",
        licence=licence,
        top1=top1,
        top1_size=None if top1 is None else top1_size,
        **facts,
    )


def _lite(name: str, *, top1: float, image_size: int) -> Record:
    facts = {"image_size": image_size, "top1_size": image_size, "preprocessing": BY_127_128}
    return _record(name, prefix="tf_", top1=top1, **facts)


RECORDS = (
    _record("resnet18.a1_in1k", top1=73.158, top1_size=288),
    _record("resnet18.a2_in1k", top1=72.372, top1_size=288),
    _record("resnet18.a3_in1k", top1=68.254, image_size=160),
    _record("resnet18.tv_in1k", top1=69.76, licence="bsd-3-clause"),
    _record(
        "resnet18.fb_ssl_yfcc100m_ft_in1k",
        top1=72.594,
        licence="cc-by-nc-4.0",
        training_data=("YFCC100M", "ImageNet-1k"),
    ),
    _record(
        "resnet18.fb_swsl_ig1b_ft_in1k",
        top1=73.282,
        licence="cc-by-nc-4.0",
        training_data=("Instagram-1B", "ImageNet-1k"),
    ),
    _record("resnet18.gluon_in1k", top1=70.838),
    _record("resnet26.bt_in1k", top1=76.366, top1_size=288),
    _record("resnet34.a1_in1k", top1=77.918, top1_size=288),
    _record("resnet34.a2_in1k", top1=77.158, top1_size=288),
    _record("resnet34.a3_in1k", top1=72.97, image_size=160),
    _record("resnet34.bt_in1k", top1=76.48, top1_size=288),
    _record("resnet34.tv_in1k", licence="bsd-3-clause"),
    _record("resnet34.gluon_in1k", top1=74.578),
    _record("resnet50.a1_in1k", top1=81.214, top1_size=288),
    _record("resnet50.a1h_in1k", top1=80.676, image_size=176),
    _record("resnet50.a2_in1k", top1=80.772, top1_size=288),
    _record("resnet50.a3_in1k", top1=78.048, image_size=160),
    _record("resnet50.b1k_in1k", top1=80.706, top1_size=288),
    _record("resnet50.b2k_in1k", top1=80.454, top1_size=288),
    _record("resnet50.c1_in1k", top1=80.912, top1_size=288),
    _record("resnet50.c2_in1k", top1=80.87, top1_size=288),
    _record("resnet50.d_in1k", top1=80.972, top1_size=288),
    _record("resnet50.ram_in1k", top1=79.976, top1_size=288),
    _record("resnet50.am_in1k", top1=78.998),
    _record("resnet50.ra_in1k", top1=79.836, top1_size=288),
    _record("resnet50.bt_in1k", top1=79.64, top1_size=288),
    _record("resnet50.tv_in1k", top1=76.13, licence="bsd-3-clause"),
    _record("resnet50.tv2_in1k", top1=80.85, image_size=176, licence="bsd-3-clause"),
    _record(
        "resnet50.fb_ssl_yfcc100m_ft_in1k",
        top1=79.234,
        licence="cc-by-nc-4.0",
        training_data=("YFCC100M", "ImageNet-1k"),
    ),
    _record(
        "resnet50.fb_swsl_ig1b_ft_in1k",
        top1=81.182,
        licence="cc-by-nc-4.0",
        training_data=("Instagram-1B", "ImageNet-1k"),
    ),
    _record("resnet50.gluon_in1k", top1=77.58),
    _record("resnet101.a1h_in1k", top1=82.778, top1_size=288),
    _record("resnet101.a1_in1k", top1=82.322, top1_size=288),
    _record("resnet101.a2_in1k", top1=82.236, top1_size=288),
    _record("resnet101.a3_in1k", top1=79.814, image_size=160),
    _record("resnet101.tv_in1k", top1=77.376, licence="bsd-3-clause"),
    _record("resnet101.tv2_in1k", top1=81.89, image_size=176, licence="bsd-3-clause"),
    _record("resnet101.gluon_in1k", top1=79.31),
    _record("resnet152.a1h_in1k", top1=83.45, top1_size=288),
    _record("resnet152.a1_in1k", top1=82.732, top1_size=288),
    _record("resnet152.a2_in1k", top1=82.608, top1_size=288),
    _record("resnet152.a3_in1k", top1=80.546, image_size=160),
    _record("resnet152.tv_in1k", top1=78.322, licence="bsd-3-clause"),
    _record("resnet152.tv2_in1k", top1=82.288, image_size=176, licence="bsd-3-clause"),
    _record("resnet152.gluon_in1k", top1=79.694),
    _record("seresnet50.a1_in1k", top1=81.102, top1_size=288),
    _record("seresnet50.a2_in1k", top1=81.106, top1_size=288),
    _record("seresnet50.a3_in1k", top1=77.028, image_size=160),
    _record("seresnet50.ra2_in1k", top1=81.284, top1_size=288),
    _record("convmixer_768_32.in1k", top1=80.168, licence="mit"),
    _record("convmixer_1024_20_ks9_p14.in1k", top1=76.936, licence="mit"),
    _record("convmixer_1536_20.in1k", top1=81.362, licence="mit"),
    _record("vgg11.tv_in1k", top1=69.022, licence="bsd-3-clause"),
    _record("vgg11_bn.tv_in1k", top1=70.382, licence="bsd-3-clause"),
    _record("vgg13.tv_in1k", top1=69.932, licence="bsd-3-clause"),
    _record("vgg13_bn.tv_in1k", top1=71.588, licence="bsd-3-clause"),
    _record("vgg16_bn.tv_in1k", top1=73.37, licence="bsd-3-clause"),
    _record("vgg19_bn.tv_in1k", top1=74.216, licence="bsd-3-clause"),
    _lite("efficientnet_lite0.in1k", top1=74.846, image_size=224),
    _lite("efficientnet_lite1.in1k", top1=76.674, image_size=240),
    _lite("efficientnet_lite2.in1k", top1=77.47, image_size=260),
    _lite("efficientnet_lite3.in1k", top1=79.808, image_size=300),
    _lite("efficientnet_lite4.in1k", top1=81.54, image_size=380),
)
