"""Statistics over seeds: against SciPy, against tables worked by hand, and what they refuse."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats

from kerazoo.training.experiments import (
    Experiment,
    Spread,
    difference,
    differences,
    median_test,
    normality,
    table,
)


def chi_square(table):
    """Pearson's χ² with Yates's correction, and its p for one degree of freedom, by the definition."""
    table = np.array(table, float)
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    distance = np.maximum(np.abs(table - expected) - 0.5, 0)
    return math.erfc(math.sqrt((distance**2 / expected).sum() / 2))


def test_median_test_of_a_table_worked_by_hand():
    """Common median 5.5: 1 of 5 and 4 of 5 are above. Expected 2.5 each; χ² = 4 · (1.5 - 0.5)² / 2.5 = 1.6."""
    p = median_test([1, 2, 3, 4, 9], [5, 6, 7, 8, 10])
    assert p == pytest.approx(math.erfc(math.sqrt(1.6 / 2)), rel=1e-6)
    assert p == pytest.approx(0.2059032, abs=1e-6)
    assert median_test(range(5), range(5, 10)) == pytest.approx(chi_square([[0, 5], [5, 0]]))


def test_values_at_the_median_are_below_it_unless_none_is_above():
    assert median_test([0, 0, 1, 1, 2], [1, 1, 1, 1, 3]) == pytest.approx(chi_square([[1, 1], [4, 4]]))
    assert median_test([1] * 6, [0] * 5 + [1]) == pytest.approx(chi_square([[6, 1], [0, 5]])), "1 is the median"
    assert median_test([1, 1], [1, 1, 1]) == 1.0


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_difference_is_what_scipy_says(shift):
    rng = np.random.default_rng(2)
    first, second = rng.normal(0, 1, 12), rng.normal(shift, 3, 15)
    found = difference(first, second)
    assert found.medians == stats.median_test(first, second).pvalue
    assert found.means == stats.ttest_ind(first, second, equal_var=False).pvalue
    assert difference(second, first).medians == pytest.approx(found.medians)


def test_welch_worked_by_hand():
    """1..8 against 2, 4, .., 16: means 4.5 and 9, variances 6 and 24, so t² = 4.5² / (6/8 + 24/8) = 5.4."""
    first, second = np.arange(1, 9), 2 * np.arange(1, 9)
    degrees = (0.75 + 3) ** 2 / (0.75**2 / 7 + 3**2 / 7)
    expected = 2 * stats.t.sf(math.sqrt(5.4), degrees)
    assert difference(first, second).means == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "p"),
    [  # one of each of the four ranges of Stephens's approximation, D'Agostino and Stephens, 1986, table 4.9
        (range(1, 11), lambda a: 1 - math.exp(-13.436 + 101.14 * a - 223.73 * a**2)),
        ([1, 2, 3, 4, 5, 6, 7, 11], lambda a: 1 - math.exp(-8.318 + 42.796 * a - 59.938 * a**2)),
        ([1, 2, 3, 4, 5, 6, 7, 14], lambda a: math.exp(0.9177 - 4.279 * a - 1.38 * a**2)),
        ([1, 2, 3, 4, 5, 6, 7, 30], lambda a: math.exp(1.2937 - 5.709 * a + 0.0186 * a**2)),
    ],
)
def test_normality_by_its_definition(values, p):
    """A² = -n - Σ (2i - 1) (log Φ(zᵢ) + log(1 - Φ(zₙ₊₁₋ᵢ))) / n of the standardized sorted values."""
    n, mean, deviation = len(values), np.mean(values), np.std(values, ddof=1)
    below = [math.erfc(-(value - mean) / deviation / math.sqrt(2)) / 2 for value in sorted(values)]
    terms = [(2 * i + 1) * (math.log(below[i]) + math.log(1 - below[n - 1 - i])) for i in range(n)]
    corrected = (-n - sum(terms) / n) * (1 + 0.75 / n + 2.25 / n**2)
    assert normality(values) == pytest.approx(p(corrected), rel=1e-9)


@pytest.mark.parametrize("draw", ["normal", "uniform", "exponential", "standard_cauchy"])
@pytest.mark.parametrize("n", [8, 10, 25, 200])
def test_normality_is_anderson_darling(draw, n):
    """p is on the same side of each of SciPy's critical values as the statistic."""
    values = getattr(np.random.default_rng(n), draw)(size=n)
    p = normality(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer releases give p alone, and want to be asked for it
        scipy = stats.anderson(values)
    corrected = scipy.statistic * (1 + 0.75 / n + 2.25 / n**2)
    for critical, alpha in ((0.631, 0.1), (0.752, 0.05), (0.873, 0.025), (1.035, 0.01)):  # Stephens's table
        assert (p < alpha) == (corrected > critical)
    assert 0 <= p <= 1


def test_p_of_normality_is_uniform_for_normal_samples():
    rng = np.random.default_rng(0)
    p = np.array([normality(rng.normal(5, 2, 10)) for _ in range(1000)])
    for alpha in (0.05, 0.25, 0.5, 0.9):
        assert np.mean(p < alpha) == pytest.approx(alpha, abs=0.05)


def test_what_does_not_look_normal_has_no_t_test():
    odd = [0.0] * 9 + [100.0]
    found = difference(odd, np.arange(10.0))
    assert found.means is None
    assert found.normal[0] < 1e-4 < found.normal[1]
    assert difference(range(7), range(10)).normal[0] is None
    assert difference(range(7), range(10)).means is None
    assert normality([0.5] * 20) is None
    assert normality([*range(99), 1e9]) < 1e-10


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_samples_are_finite_numbers(values):
    for test in (lambda: normality(values), lambda: median_test([1.0, 2.0], values)):
        with pytest.raises(ValueError, match="one or more finite numbers, received"):
            test()


def test_spread_says_mean_deviation_and_median():
    spread = Spread.of([0.1, 0.2, 0.9])
    assert (spread.mean, spread.median) == (pytest.approx(0.4), 0.2)
    assert spread.deviation == pytest.approx(math.sqrt((0.09 + 0.04 + 0.25) / 2))
    assert str(spread) == "0.400 ± 0.436 (0.200)"
    assert str(Spread.of([0.1])) == "0.100"
    assert str(Spread.of([20, 30])) == "25.0 ± 7.1"


def text(view):
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as out:
        console.print(view)
    return " ".join(out.get().split())


def test_experiments_are_tested_against_the_first():
    rng = np.random.default_rng(0)

    def experiment(name, n, shift):
        return Experiment(name, [], list(range(n)), {"iou": Spread.of(rng.normal(shift, 0.1, n))})

    first, better, few = experiment("plain", 10, 0), experiment("smooth", 10, 1), experiment("new", 3, 1)
    shown = text(differences([first, better, few]))
    assert "against plain" in shown
    assert f"smooth │ iou │ {median_test(first.metrics['iou'].values, better.metrics['iou'].values):.2g}" in shown
    assert "new" not in shown, "three runs tell nothing"
    assert differences([first, few]) is None
    assert differences([first]) is None
    assert "(median) over runs" in text(table([first]))
