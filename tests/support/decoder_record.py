"""What tests/test_matrix.py measured on every decoder over a few encoders: docs/decoders.csv, a table of decoders.md.

`pytest tests/test_matrix.py -m "slow or not slow" --record-decoders` writes the rows of the pairs that ran, for the
backend it ran on; with `-k "NAME or fresh_process"` those of one decoder, because one test reads the files of all. A
combination that is refused has "refused" in every column.
"""

import kerazoo as kz
from kerazoo.encoders.resnet import basic_block
from support.record import Record

RESNET = kz.encoders.ResNet(block=basic_block, depths=(1, 1, 1, 1), widths=(8, 8, 12, 16), expansion=1, stem_width=8)

ENCODERS = {
    "resnet": (RESNET, {}),
    "vgg": (kz.encoders.VGG(depths=(1, 1, 1, 1, 1), widths=(8, 8, 8, 12, 16)), {}),
    "mobilenetv3": ("mobilenetv3_small", {}),
    "convmixer": (kz.encoders.ConvMixer(width=8, blocks=2, kernel_size=5), {}),
    "dilated": (RESNET, {"output_stride": 8}),
}
"""Encoders by the name that they have in the table, and arguments of `segmenter`: five levels from stride 2 on, six
from stride 1 on with switches, a family of keras.applications, one level at stride 7, and three levels at stride 8."""

CHECKS = ["any_size", "float16", "bfloat16", "xla", "reload"]
RECORD = Record("decoders", {"decoder": kz.decoders.list(), "encoder": ENCODERS}, CHECKS)
