"""Contract checks that every registered part passes. Public: authors of outside parts run the same checks.

```python
@pytest.mark.parametrize("case", kz.testing.contract_cases(), ids=str)
def test_contract(case):
    case.check(case.part)
```

A check computes the truth itself; the author of a part cannot supply the expected answer. Parts get tiny inputs.
"""

import functools
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kerazoo._checks import encoders as encoder_checks
from kerazoo._checks import losses as loss_checks
from kerazoo._checks import metrics as metric_checks
from kerazoo._checks.models import EVEN_SIZE, as_list, check_reload, own_layers, random_image
from kerazoo.decoders import DECODERS
from kerazoo.encoders import ENCODERS
from kerazoo.heads import HEADS
from kerazoo.layers import MaxPoolWithIndices
from kerazoo.losses import LOSSES
from kerazoo.metrics import METRICS
from kerazoo.optimizers import OPTIMIZERS
from kerazoo.registry import Registry
from kerazoo.types import Decoder, Features, Level, Tensor, complete

__all__ = ["CHECKS", "Case", "contract_cases"]

TALL_SIZE = (512, 16)
"""Leaves pixels to decoders that pool the coarsest level: batch norm over one pixel per image has hardly a gradient."""

PYRAMID = ((2, 4), (4, 5), (8, 6), (16, 7), (32, 8))
"""Stride and channels of the levels that decoders and heads are checked on; all channels differ."""

TINY: dict[tuple[str, str], dict[str, Any]] = {("decoder", "deconvnet"): {"fc_width": 16}}
"""Arguments of parts, by kind and name, whose defaults are too large for a check; nothing but sizes."""


@dataclass(frozen=True)
class Case:
    """One check of one part.

    Attributes:
        kind: Of the registry: "encoder", "decoder", …
        name: Of the part in its registry.
        part: What the registry holds, with the arguments of `TINY`.
        check: Function that takes the part and raises AssertionError; it may return what it measured.
    """

    kind: str
    name: str
    part: Any
    check: Callable[[Any], Any]

    def __str__(self) -> str:
        return f"{self.kind}-{self.name}-{self.check.__name__}"


def contract_cases(kind: str | None = None) -> list[Case]:
    """Every check of every registered part.

    Args:
        kind: Only parts of this kind ("decoder"), None for all.

    Returns: One case for every part and check.

    Raises:
        ValueError: there is no such kind.
    """
    if kind is not None and kind not in CHECKS:
        raise ValueError(f"`kind` must be one of {list(CHECKS)}, received {kind!r}.")
    return [
        Case(kind_, name, _tiny(kind_, name, registry[name]), check)
        for kind_, (registry, checks) in CHECKS.items()
        if kind in (None, kind_)
        for name in registry
        for check in checks
    ]


def _tiny(kind: str, name: str, part: Any) -> Any:
    return functools.partial(part, **TINY[kind, name]) if (kind, name) in TINY else part


# Decoders


def check_decoder_levels(decoder: Any) -> None:
    """Every decoded level has ceil(size / stride) rows, fine to coarse, for odd and even run-time sizes.

    A decoder with a `margin` gets features of larger images; its levels are those of the images without it.
    """
    part = complete(decoder(), Decoder)
    model, decoded = _decode(part, PYRAMID)
    assert list(decoded) == sorted(decoded), f"decoded strides are not fine to coarse: {decoded}"
    for size in (EVEN_SIZE, (96, 32)):
        outputs = as_list(model.predict_on_batch(_pyramid_arrays(PYRAMID, size, margin=part.margin)))
        for stride, level in zip(decoded, outputs, strict=True):
            expected = tuple(-(-n // stride) for n in size)
            assert level.shape[1:3] == expected, f"stride {stride} of {size}: {level.shape[1:3]}, expected {expected}"


def check_decoder_subsets(decoder: Any) -> None:
    """Levels that start late, end early, skip a stride or repeat one work, or raise a ValueError that says why."""
    repeated = (*PYRAMID[:4], (16, 8))
    for pyramid in (PYRAMID[1:], PYRAMID[:3], (PYRAMID[0], *PYRAMID[2:]), repeated):
        try:
            part = complete(decoder(), Decoder)
            model, _ = _decode(part, pyramid)
        except ValueError as refusal:
            reason = str(refusal)
        else:
            reason = None
        if reason is not None:
            assert len(reason) > 30, f"{pyramid}: the error does not say why: {reason}"
            continue
        for level in as_list(model.predict_on_batch(_pyramid_arrays(pyramid, EVEN_SIZE, margin=part.margin))):
            assert np.isfinite(level).all(), f"{pyramid}: not finite"


def check_decoder_names(decoder: Any) -> None:
    """Layer names start with "d", and every weight is finite and moves in a training step."""
    part = complete(decoder(), Decoder)
    model, _ = _decode(part, PYRAMID)
    _check_names(model, prefix="d", inputs="in")
    _check_training_step(model, _pyramid_arrays(PYRAMID, TALL_SIZE, margin=part.margin))


def check_decoder_precision(decoder: Any) -> None:
    """The decoder computes in the precision of the policy and stays finite."""
    part = complete(decoder(), Decoder)
    _check_precision(lambda: _decode(part, PYRAMID)[0], _pyramid_arrays(PYRAMID, EVEN_SIZE, margin=part.margin))


def check_decoder_reload(decoder: Any) -> None:
    """A model read back from its file gives the same levels."""
    part = complete(decoder(), Decoder)
    model, _ = _decode(part, PYRAMID)
    check_reload(model, _pyramid_arrays(PYRAMID, EVEN_SIZE, margin=part.margin))


# Heads


def check_head_logits(head: Any) -> None:
    """Logits have one channel per class and the size of the stride that the head says."""
    for num_classes in (1, 3):
        model, (stride,) = _classify(head(), PYRAMID, num_classes)
        for size in (EVEN_SIZE, (96, 32)):
            logits = model.predict_on_batch(_pyramid_arrays(PYRAMID, size))
            expected = (2, -(-size[0] // stride), -(-size[1] // stride), num_classes)
            assert logits.shape == expected, f"{logits.shape}, expected {expected}"


def check_head_single_level(head: Any) -> None:
    """One level is enough: decoders may have only one."""
    model, _ = _classify(head(), PYRAMID[1:2], 2)
    assert np.isfinite(model.predict_on_batch(_pyramid_arrays(PYRAMID[1:2], EVEN_SIZE))).all()


def check_head_names(head: Any) -> None:
    """Layer names start with "h", and every weight is finite and moves in a training step."""
    model, _ = _classify(head(), PYRAMID, 2)
    _check_names(model, prefix="h", inputs="in")
    _check_training_step(model, _pyramid_arrays(PYRAMID, EVEN_SIZE))


def check_head_precision(head: Any) -> None:
    """Weights compute in the precision of the policy; what comes after them may be float32; all is finite."""

    def build() -> keras.Model:
        model, _ = _classify(head(), PYRAMID, 2)
        weighted = [layer for layer in model.layers if layer.weights]
        return keras.Model(model.inputs, [*model.outputs, *(layer.output for layer in weighted)])

    _check_precision(build, _pyramid_arrays(PYRAMID, EVEN_SIZE), after=1)


def check_head_reload(head: Any) -> None:
    """A model read back from its file gives the same logits."""
    model, _ = _classify(head(), PYRAMID, 2)
    check_reload(model, _pyramid_arrays(PYRAMID, EVEN_SIZE))


# Optimizers


def check_optimizer_descends(optimizer: Any) -> None:
    """Two hundred steps bring a parabola's minimum nearer than a tenth of the start's distance."""
    weight = keras.Variable(np.array([1.0, -2.0, 3.0], "float32"))
    updater = optimizer(learning_rate=0.1)
    updater.build([weight])
    for _ in range(200):
        updater.apply([2 * weight.value], [weight])
    distance = float(np.abs(keras.ops.convert_to_numpy(weight)).max())
    assert distance < 0.3, f"still {distance} from the minimum"


def check_optimizer_config(optimizer: Any) -> None:
    """The configuration is JSON and builds the same optimizer."""
    original = optimizer(learning_rate=0.05)
    config = json.loads(json.dumps(keras.optimizers.serialize(original)))
    assert keras.optimizers.deserialize(config).get_config() == original.get_config()


# What the checks share


def _pyramid_arrays(
    pyramid: tuple[tuple[int, int], ...], size: tuple[int, int], *, margin: int = 0
) -> list[np.ndarray]:
    """Levels of two images, the second negative, so that a ReLU that is dead for one is not for the other."""
    signs = np.array([1.0, -1.0], "float32")[:, None, None, None]
    height, width = (n + 2 * margin for n in size)
    return [signs * random_image(-(-height // stride), -(-width // stride), channels) for stride, channels in pyramid]


def _pyramid_inputs(pyramid: tuple[tuple[int, int], ...]) -> Features:
    return tuple(
        Level(stride, keras.Input((None, None, channels), name=f"in{i}"))
        for i, (stride, channels) in enumerate(pyramid)
    )


def _decode(part: Any, pyramid: tuple[tuple[int, int], ...]) -> tuple[keras.Model, tuple[int, ...]]:
    inputs = _pyramid_inputs(pyramid)
    decoded = part(inputs, _switches(inputs)) if part.switches else part(inputs)
    model = keras.Model([level.tensor for level in inputs], [level.tensor for level in decoded])
    return model, tuple(level.stride for level in decoded)


def _switches(features: Features) -> dict[int, Tensor]:
    """What max poolings between levels whose strides double say."""
    return {
        coarse.stride: MaxPoolWithIndices(name=f"in_pool{coarse.stride}")(fine.tensor)[1]
        for fine, coarse in itertools.pairwise(features)
        if coarse.stride == 2 * fine.stride
    }


def _classify(part: Any, pyramid: tuple[tuple[int, int], ...], num_classes: int) -> tuple[keras.Model, tuple[int]]:
    inputs = _pyramid_inputs(pyramid)
    logits = part(inputs, num_classes=num_classes)
    return keras.Model([level.tensor for level in inputs], logits.tensor), (logits.stride,)


def _check_names(model: keras.Model, *, prefix: str, inputs: str) -> None:
    names = [layer.name for layer in own_layers(model) if not layer.name.startswith(inputs)]
    strange = [name for name in names if not name.startswith(prefix)]
    assert not strange, f"names do not start with {prefix!r}: {strange}"
    assert len(set(names)) == len(names), f"names repeat: {sorted(names)}"


def _check_training_step(model: keras.Model, inputs: list[np.ndarray]) -> None:
    if not model.weights:
        return
    model.compile(keras.optimizers.SGD(1.0), loss=keras.losses.MeanSquaredError())
    model.optimizer.build(model.trainable_variables)  # or TensorFlow traces the step twice
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if len(variable.shape) > 1 and not keras.ops.convert_to_numpy(variable).any():
            # A kernel that starts at zero, as those that predict offsets do, lets no gradient through to what it reads.
            variable.assign(generator.normal(0, 0.01, variable.shape))
    before = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    targets = [np.ones(output.shape, "float32") for output in as_list(model.predict_on_batch(inputs))]
    model.train_on_batch(inputs, targets if len(targets) > 1 else targets[0])
    for variable, old in zip(model.trainable_variables, before, strict=True):
        new = keras.ops.convert_to_numpy(variable)
        assert np.isfinite(new).all(), f"{variable.path} has a gradient that is not finite"
        assert (new != old).any(), f"{variable.path} has no gradient"


def _check_precision(build: Callable[[], keras.Model], inputs: list[np.ndarray], *, after: int = 0) -> None:
    """The first `after` outputs may be float32."""
    policy = keras.config.dtype_policy()
    try:
        for name in ("mixed_bfloat16", "mixed_float16"):
            keras.config.set_dtype_policy(name)
            model = build()
            for position, output in enumerate(model.outputs):
                allowed = {name.removeprefix("mixed_"), *(["float32"] if position < after else [])}
                assert output.dtype in allowed, f"{name}: an output is {output.dtype}"
            for output in as_list(model.predict_on_batch(inputs)):
                assert np.isfinite(np.asarray(output).astype("float32")).all(), f"{name}: not finite"
    finally:
        keras.config.set_dtype_policy(policy)


CHECKS: dict[str, tuple[Registry, tuple[Callable[[Any], Any], ...]]] = {
    "encoder": (ENCODERS, encoder_checks.CHECKS),
    "decoder": (
        DECODERS,
        (
            check_decoder_levels,
            check_decoder_subsets,
            check_decoder_names,
            check_decoder_precision,
            check_decoder_reload,
        ),
    ),
    "head": (
        HEADS,
        (check_head_logits, check_head_single_level, check_head_names, check_head_precision, check_head_reload),
    ),
    "loss": (LOSSES, tuple(loss_checks.CHECKS)),
    "metric": (METRICS, tuple(metric_checks.CHECKS)),
    "optimizer": (OPTIMIZERS, (check_optimizer_descends, check_optimizer_config)),
}
"""Kind of part to its registry and checks."""
