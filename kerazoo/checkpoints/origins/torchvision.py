"""Files of torchvision, which are pickles.

Addresses and top-1 are those of torchvision 0.28.0 (`torchvision/models/resnet.py` and `vgg.py`, the `…_Weights`);
the digits in a file's name are the first of its sha256. The licence is what timm 1.0.31 says of the same weights.
"""

from kerazoo.checkpoints.record import Record


def _record(arch: str, version: str, file: str, *, top1: float) -> Record:
    return Record(
        name=f"{arch}.imagenet1k_{version}",
        origin="torchvision",
        url=f"https://download.pytorch.org/models/{file}",
        file=file,
        digest=f"sha256:{file.partition('-')[2].removesuffix('.pth')}",
        licence="bsd-3-clause",
        top1=top1,
        top1_size=224,
    )


RECORDS = (
    _record("resnet18", "v1", "resnet18-f37072fd.pth", top1=69.758),
    _record("resnet34", "v1", "resnet34-b627a593.pth", top1=73.314),
    _record("resnet50", "v1", "resnet50-0676ba61.pth", top1=76.13),
    _record("resnet50", "v2", "resnet50-11ad3fa6.pth", top1=80.858),
    _record("resnet101", "v1", "resnet101-63fe2227.pth", top1=77.374),
    _record("resnet101", "v2", "resnet101-cd907fc2.pth", top1=81.886),
    _record("resnet152", "v1", "resnet152-394f9c45.pth", top1=78.312),
    _record("resnet152", "v2", "resnet152-f82ba261.pth", top1=82.284),
    _record("vgg11", "v1", "vgg11-8a719046.pth", top1=69.02),
    _record("vgg11_bn", "v1", "vgg11_bn-6002323d.pth", top1=70.37),
    _record("vgg13", "v1", "vgg13-19584684.pth", top1=69.928),
    _record("vgg13_bn", "v1", "vgg13_bn-abd245e5.pth", top1=71.586),
    _record("vgg16_bn", "v1", "vgg16_bn-6c64b313.pth", top1=73.36),
    _record("vgg19_bn", "v1", "vgg19_bn-c79401a0.pth", top1=74.218),
)
