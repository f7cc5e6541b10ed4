"""The dotted name of `kerazoo.data.batches.augment`, which needs Keras: it is that module, imported on first use."""

import sys

from kerazoo.data.batches import augment

sys.modules[__name__] = augment
