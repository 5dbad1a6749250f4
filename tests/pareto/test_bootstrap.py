"""Intervals against what a bootstrap must do, and against the central limit theorem."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srsoup_lightning.pareto import interval, ratio_interval
from srsoup_lightning.pareto.bootstrap import RESAMPLES, resampled

QUICK = settings(max_examples=30, deadline=None)
VALUES = st.floats(-100, 100)


def test_intervals_hold_the_mean_and_vanish_where_prompts_agree() -> None:
    spread = interval({"x": [1.0, 3.0], "y": [4.0], "z": [9.0]})
    assert spread["mean"] == pytest.approx(5)
    assert 2 <= spread["low"] < 5 < spread["high"] <= 9
    assert interval({"x": [3.0], "y": [3.0]}) == {"mean": 3.0, "low": 3.0, "high": 3.0}
    assert interval({"x": [1.0] * 50, "y": [5.0]}) == interval({"x": [1.0], "y": [5.0]})  # seeds of a prompt are one


def test_an_interval_of_many_prompts_is_two_standard_errors_wide() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = interval({str(number): [value] for number, value in enumerate(values)})
    error = 1.96 * values.std() / math.sqrt(len(values))
    assert found["low"] == pytest.approx(values.mean() - error, abs=0.1 * error)
    assert found["high"] == pytest.approx(values.mean() + error, abs=0.1 * error)


@QUICK
@given(st.lists(VALUES, min_size=2, max_size=6), st.floats(0.1, 10), VALUES)
def test_an_interval_moves_with_its_values(values: list[float], factor: float, shift: float) -> None:
    before = interval({str(number): [value] for number, value in enumerate(values)})
    after = interval({str(number): [factor * value + shift] for number, value in enumerate(values)})
    for end in before:
        assert after[end] == pytest.approx(factor * before[end] + shift, rel=1e-6, abs=1e-6)


def test_a_ratio_is_paired_by_prompt() -> None:
    below = {"x": [1.0], "y": [10.0], "z": [100.0]}
    above = {prompt: [2 * value for value in values] for prompt, values in reversed(below.items())}
    assert ratio_interval(above, below) == pytest.approx({"mean": 2, "low": 2, "high": 2})


def test_resamples_are_the_same_at_every_call() -> None:
    assert resampled(5).shape == (RESAMPLES, 5)
    assert (resampled(5) == resampled(5)).all()
    assert set(resampled(3).flat) == {0, 1, 2}


@pytest.mark.parametrize("values", [{}, {"x": []}, {"x": [math.nan]}, {"x": [1.0], "y": [math.inf]}])
def test_values_without_a_mean_are_refused(values: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        interval(values)
    with pytest.raises(ValueError, match="at least one"):
        ratio_interval(values, values)
