"""Values, configurations and state of every metric are those that version 0.1 had (tests/golden/metrics.json)."""

import json

import numpy as np
import pytest
from support.metric_record import record
from support.source_tree import REPOSITORY

GOLDEN = json.loads((REPOSITORY / "tests" / "golden" / "metrics.json").read_text())


@pytest.fixture(scope="module")
def rows():
    return record()


def test_no_metric_or_setting_is_lost(rows):
    assert GOLDEN.keys() - rows.keys() == set()


@pytest.mark.parametrize("name", [name for name in GOLDEN if "(" not in name])
def test_metrics_are_as_recorded(rows, name):
    assert rows[name] == GOLDEN[name], "configuration, or names and shapes of the variables"
    for key in (key for key in GOLDEN if key.startswith(f"{name}(")):
        for case, expected in GOLDEN[key].items():
            assert rows[key][case].keys() == expected.keys(), f"{key}: {case}"
            for what, value in expected.items():
                np.testing.assert_allclose(rows[key][case][what], value, rtol=1e-6, err_msg=f"{key}: {case}: {what}")
