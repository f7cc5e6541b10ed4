"""Files of segmentation_models.pytorch (smp) on the Hugging Face Hub, each at the commit that smp loads.

Repositories and commits are those of smp 0.6.0 (`segmentation_models_pytorch/encoders/resnet.py` and `vgg.py`), which
names no hashes and no licences. Before they were copied to the Hub, the same files named where they loaded from:
"imagenet" is torchvision's first set, "ssl" and "swsl" are Facebook's. The licences are what timm 1.0.31 says of those.
"""

from kerazoo.checkpoints.record import Record

LICENCES = {"imagenet": "bsd-3-clause", "ssl": "cc-by-nc-4.0", "swsl": "cc-by-nc-4.0"}
TRAINING_DATA = {
    "imagenet": ("ImageNet-1k",),
    "ssl": ("YFCC100M", "ImageNet-1k"),
    "swsl": ("Instagram-1B", "ImageNet-1k"),
}


def _record(arch: str, weights: str, revision: str) -> Record:
    return Record(
        name=f"{arch}.smp_{weights}",
        origin="smp",
        repo=f"smp-hub/{arch}.{weights}",
        revision=revision,
        file="model.safetensors",
        licence=LICENCES[weights],
        training_data=TRAINING_DATA[weights],
    )


RECORDS = (
    _record("resnet18", "imagenet", "3f2325ff978283d47aa6a1d6878ca20565622683"),
    _record("resnet18", "ssl", "d600d5116aac2e6e595f99f40612074c723c00b2"),
    _record("resnet18", "swsl", "0e3a35d4d8e344088c14a96eee502a88ac70eae1"),
    _record("resnet34", "imagenet", "7a57b34f723329ff020b3f8bc41771163c519d0c"),
    _record("resnet50", "imagenet", "00cb74e366966d59cd9a35af57e618af9f88efe9"),
    _record("resnet50", "ssl", "d07daf5b4377f3700c6ac61906b0aafbc4eca46b"),
    _record("resnet50", "swsl", "b9520cce124f91c6fe7eee45721a2c7954f0d8c0"),
    _record("resnet101", "imagenet", "cd7c15e8c51da86ae6a084515fdb962d0c94e7d1"),
    _record("resnet152", "imagenet", "951dd835e9d086628e447b484584c8983f9e1dd0"),
    _record("vgg11", "imagenet", "ad8b90e1051c38fdbf399cf5016886a1be357390"),
    _record("vgg11_bn", "imagenet", "59757f9215032c9f092977092d57d26a9df7fd9c"),
    _record("vgg13", "imagenet", "1b70ff2580f101a8007a48b51e2b5d1e5925dc42"),
    _record("vgg13_bn", "imagenet", "9be454515193af6612261b7614fe90607e27b143"),
    _record("vgg16_bn", "imagenet", "2c186d02fb519e93219a99a1c2af6295aef0bf0d"),
    _record("vgg19_bn", "imagenet", "f09a924cb0d201ea6f61601df9559141382271d7"),
)
