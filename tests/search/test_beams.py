"""Schedules of a beam search against the formulas of the paper."""

from __future__ import annotations

from math import exp, floor

import pytest

from srsoup_lightning.search.beams import beams_left, searched_steps

SHARES = [0, 0.25, 0.5, 0.75, 1]
LEFT = {  # of 9 beams, by hand
    "exponential": [9, 5, 3, 1, 1],  # 9, 3^1.5, 3, 3^0.5, 1
    "linear": [9, 7, 5, 3, 1],
    "quadratic": [9, 5, 3, 1, 1],  # 1 + 8 (1, 9/16, 1/4, 1/16, 0)
    "sigmoid": [9, 8, 5, 1, 1],
    "constant": [9] * 5,
}


@pytest.mark.parametrize("schedule", LEFT)
def test_beams_fall_by_the_schedule(schedule: str) -> None:
    assert [beams_left(schedule, 9, share) for share in SHARES] == LEFT[schedule]
    assert {beams_left(schedule, 1, share) for share in SHARES} == {1}


@pytest.mark.parametrize("steps", [1, 2, 20, 50])
def test_as_many_steps_are_searched_as_the_paper_expects(steps: int) -> None:
    shares = [step / max(steps - 1, 1) for step in range(steps)]
    exponential = searched_steps("exponential", steps)
    assert sum(exponential) == floor(sum(1 - exp(-3 * share) for share in shares))
    assert sum(exponential[steps // 2 :]) >= sum(exponential[: steps // 2])
    linear = searched_steps("linear", steps)
    assert sum(linear) == floor(sum(min((step + 10) / max(steps - 1, 1), 1) for step in range(steps)) + 1e-9)
    assert searched_steps("all", steps) == [True] * steps
