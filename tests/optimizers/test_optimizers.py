"""RAdam against PyTorch's trajectories, RAdam and AngularGrad against float64 references."""

import json

import keras
import numpy as np
import pytest
from keras import ops
from reference import angular_grad
from reference import radam as reference
from support.source_tree import REPOSITORY

from kerazoo.optimizers import AngularGrad, RAdam

pytestmark = pytest.mark.backends

RNG = np.random.default_rng(0)
CURVATURE = np.diag([0.1, 1.0, 10.0]) + 0.05
START = np.array([1.0, -2.0, 3.0])


def descend(optimizer, start, curvature, steps):
    """Weights after each step on ½ wᵀAw, `(steps, n)`."""
    weight, matrix = keras.Variable(start.astype("float32")), curvature.astype("float32")
    rows = []
    for _ in range(steps):
        optimizer.apply([ops.matmul(matrix, weight.value)], [weight])
        rows.append(ops.convert_to_numpy(weight.value).copy())
    return np.array(rows)


@pytest.mark.parametrize("name", ["radam", "radam_decoupled"])
def test_trajectory_is_that_of_torch(name):
    golden = np.load(REPOSITORY / "tests" / "golden" / f"{name}.npz")
    rate, decay = float(golden["learning_rate"]), float(golden["weight_decay"])
    optimizer = RAdam(rate, weight_decay=decay, decoupled=name == "radam_decoupled")
    received = descend(optimizer, golden["w0"], golden["A"], len(golden["trajectory"]))
    np.testing.assert_allclose(received, golden["trajectory"], rtol=1e-5, atol=1e-6)
    matrix = golden["A"].astype("float64")
    expected = reference.trajectory(
        golden["w0"],
        lambda w: matrix @ w,
        steps=len(received),
        learning_rate=lambda step: rate,
        weight_decay=decay,
        decoupled=optimizer.decoupled,
    )
    np.testing.assert_allclose(expected, golden["trajectory"], rtol=1e-5, atol=1e-6)  # so the reference is right too


@pytest.mark.parametrize(
    "arguments",
    [
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled": True},
        {"beta_1": 0.0, "beta_2": 0.9, "epsilon": 1e-3},
        {"beta_1": 0.95, "beta_2": 0.9999},
        {"beta_2": 0.5},
    ],
    ids=str,
)
def test_trajectory_is_that_of_the_reference(arguments):
    received = descend(RAdam(0.02, **arguments), START, CURVATURE, steps=40)
    expected = reference.trajectory(
        START, lambda w: CURVATURE @ w, steps=40, learning_rate=lambda step: 0.02, **arguments
    )
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"angle": "tan"},
        {"weight_decay": 0.1, "decoupled": True},
        {"weight_decay": 0.1, "angle": "tan", "beta_1": 0.0, "beta_2": 0.9, "epsilon": 1e-3},
    ],
    ids=str,
)
def test_angular_trajectory_is_that_of_the_reference(arguments):
    received = descend(AngularGrad(0.02, **arguments), START, CURVATURE, steps=40)
    expected = angular_grad.trajectory(START, lambda w: CURVATURE @ w, steps=40, learning_rate=0.02, **arguments)
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)


def test_angular_coefficient_at_its_limits():
    """After steps with the same gradient the cosine's coefficient is ½ + ½ tanh 1; with a large angle it is ½."""
    for gradients, expected in (([1.0] * 3, 0.5 + 0.5 * np.tanh(1)), ([1.0, -1.0, 1.0], 0.5)):
        weight, optimizer = keras.Variable(np.zeros(1, "float32")), AngularGrad(1.0, beta_1=0.0, beta_2=0.5)
        for gradient in gradients:
            before = float(ops.convert_to_numpy(weight)[0])
            optimizer.apply([ops.full((1,), gradient)], [weight])
        moved = abs(float(ops.convert_to_numpy(weight)[0]) - before)
        np.testing.assert_allclose(moved, expected, rtol=1e-5)


def test_schedules_are_followed():
    schedule = keras.optimizers.schedules.CosineDecay(0.05, 20, alpha=0.1)
    received = descend(RAdam(schedule), START, CURVATURE, steps=25)
    expected = reference.trajectory(
        START,
        lambda w: CURVATURE @ w,
        steps=25,
        learning_rate=lambda step: 0.05 * (0.1 + 0.9 * (1 + np.cos(np.pi * min(step / 20, 1))) / 2),
    )
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("beta_2", [0.5, 0.9, 0.99, 0.999, 0.9999])
def test_rectification_keeps_its_digits(beta_2):
    """ρ written as in the paper is a difference of large numbers: float32 starts to rectify at the wrong step."""
    optimizer = RAdam(beta_1=0.9, beta_2=beta_2)
    limit = 2 / (1 - beta_2) - 1
    for step in [*range(1, 30), 100, 999, 1000, 1001, 10_000, 1_000_000]:
        _, rectified, rectify = (float(x) for x in optimizer._factors(ops.convert_to_tensor(step, dtype="float32")))
        power = np.longdouble(beta_2) ** step
        rho = limit - 2 * step * power / (1 - power)
        assert bool(rectify) == (rho > 5), f"step {step}: ρ = {rho}"
        if rho > 5:
            r = np.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
            expected = float(r * np.sqrt(1 - power) / (1 - 0.9**step))
            assert rectified == pytest.approx(expected, rel=5e-6), f"step {step}"


# Weight decay ---------------------------------------------------------------------------------------------------------


def move(optimizer, gradient):
    """A kernel, bias and scale of ones after one step with the same gradient everywhere."""
    variables = [keras.Variable(np.ones(2, "float32"), name=name) for name in ("kernel", "bias", "gamma")]
    optimizer.build(variables)
    optimizer.apply([ops.full((2,), gradient)] * 3, variables)
    return [float(ops.convert_to_numpy(variable.value)[0]) for variable in variables]


def test_decoupled_decay_is_taken_once():
    np.testing.assert_allclose(move(RAdam(0.1, weight_decay=0.5, decoupled=True), 0.0), [0.95] * 3, rtol=1e-6)


def test_coupled_decay_is_part_of_the_gradient_and_nothing_else():
    """In the first step w moves by lr times the gradient, here λ w."""
    np.testing.assert_allclose(move(RAdam(0.1, weight_decay=0.5), 0.0), [0.95] * 3, rtol=1e-6)
    np.testing.assert_allclose(move(RAdam(0.1, weight_decay=0.5), 1.0), [0.85] * 3, rtol=1e-6)


@pytest.mark.parametrize("decoupled", [True, False])
def test_angular_grad_leaves_excluded_variables_alone(decoupled):
    kernel, *others = move(AngularGrad(0.1, weight_decay=0.5, decoupled=decoupled, exclude=("bias", "gamma")), 0.0)
    assert kernel < 1
    assert others == [1.0, 1.0]


@pytest.mark.parametrize("decoupled", [True, False])
def test_excluded_variables_do_not_decay(decoupled):
    arguments = {"weight_decay": 0.5, "decoupled": decoupled}
    optimizer = RAdam(0.1, exclude=("bias", "gamma"), **arguments)
    np.testing.assert_allclose(move(optimizer, 0.0), [0.95, 1.0, 1.0], rtol=1e-6)
    loaded = keras.optimizers.deserialize(json.loads(json.dumps(keras.optimizers.serialize(optimizer))))
    np.testing.assert_allclose(move(loaded, 0.0), [0.95, 1.0, 1.0], rtol=1e-6)
    by_keras = RAdam(0.1, **arguments)
    by_keras.exclude_from_weight_decay(var_names=["gamma"])
    np.testing.assert_allclose(move(by_keras, 0.0), [0.95, 0.95, 1.0], rtol=1e-6)


# In a model -----------------------------------------------------------------------------------------------------------


def small_model():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(3, kernel_initializer=keras.initializers.RandomNormal(seed=0), name="first")(inputs)
    return keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones", name="second")(hidden))


@pytest.mark.parametrize("kind", [RAdam, AngularGrad])
def test_training_goes_on_after_loading(tmp_path, kind):
    x, y = RNG.normal(size=(8, 4)).astype("float32"), RNG.normal(size=(8, 1)).astype("float32")
    schedule = keras.optimizers.schedules.CosineDecay(0.05, 20)
    model = small_model()
    model.compile(kind(schedule, weight_decay=0.01, exclude=("bias",)), loss="mse")
    model.fit(x, y, epochs=7, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for trained in (model, loaded):
        trained.fit(x, y, epochs=7, verbose=0)
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [RAdam, AngularGrad])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_training_under_a_mixed_policy(policy, kind):
    keras.config.set_dtype_policy(policy)
    x = RNG.normal(size=(16, 4)).astype("float32")
    model = small_model()
    model.compile(kind(0.05, global_clipnorm=1.0), loss="mse")
    losses = model.fit(x, x[:, :1], epochs=30, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] / 2


def test_variables_are_named_as_in_the_paper():
    optimizer = RAdam()
    optimizer.build([keras.Variable(np.ones(2), name="kernel")])
    assert [variable.name for variable in optimizer.variables][2:] == ["kernel_m", "kernel_v"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta_1": 1.0}, r"`beta_1` in \[0, 1\), received 1.0"),
        ({"beta_2": 0.0}, r"`beta_2` in \(0, 1\), received 0.0"),
        ({"epsilon": -1e-8}, "`epsilon` of at least 0, received -1e-08"),
        ({"weight_decay": -0.1}, "`weight_decay` of at least 0, received -0.1"),
        ({"exclude": "bias"}, r"a sequence of names as `exclude`, received 'bias'. Use \('bias',\)"),
    ],
)
def test_arguments_outside_their_range(arguments, message):
    for kind in (RAdam, AngularGrad):
        with pytest.raises(ValueError, match=f"{kind.__name__} takes.*{message}"):
            kind(**arguments)


def test_angles_are_named():
    with pytest.raises(ValueError, match=r"`angle` one of \('cos', 'tan'\), received 'sin'"):
        AngularGrad(angle="sin")
