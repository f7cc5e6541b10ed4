"""Auxiliary heads on every decoded level, for deep supervision. Lee et al., 2015, https://arxiv.org/abs/1409.5185."""

from kerazoo.heads._logits import classify
from kerazoo.types import AUX_PREFIX, Features, Level


def auxiliary_names(features: Features) -> list[str]:
    """Names of the outputs: "aux_8" for the level at stride 8, "aux_8_2" if another one before it has that stride."""
    names: list[str] = []
    for position, (stride, _) in enumerate(features):
        name = f"{AUX_PREFIX}{stride}"
        names.append(f"{name}_{position}" if name in names else name)
    return names


def auxiliary(features: Features, *, num_classes: int) -> Features:
    """Classify each level by a 1x1 convolution of its own; the logits as levels, in the order of `features`."""
    return tuple(
        Level(stride, classify(x, num_classes=num_classes, name=f"h_{name}"))
        for name, (stride, x) in zip(auxiliary_names(features), features, strict=True)
    )
