"""Names of the classes of ImageNet-1k, in the order of the logits of every network trained on it.

`imagenet_classes.txt` is one line per class: the words of WordNet 3.0 (Princeton University, 2006; its licence lets
anyone use and copy them with this notice) for the synsets in the files `imagenet_synsets.txt` and
`imagenet_synset_to_lemma.txt` of timm 1.0.31 (Apache-2.0).
"""

import functools
from pathlib import Path

CLASSES = 1000


@functools.cache
def imagenet_classes() -> tuple[str, ...]:
    """Names of the 1000 classes of ImageNet-1k: entry i is what logit i stands for, synonyms separated by commas.

    Returns: names such as "Egyptian cat", entry 285. Two are the same, "crane": 134 is the bird, 517 the machine.
    """
    return tuple(Path(__file__).with_name("imagenet_classes.txt").read_text().splitlines())
