"""Schedules of a beam search: how many beams are left, and which steps are searched."""

from __future__ import annotations

import math
from typing import Literal

BeamSchedule = Literal["exponential", "linear", "quadratic", "sigmoid", "constant"]
SearchSchedule = Literal["exponential", "linear", "all"]

STEEPNESS = 10.0  # of the sigmoid
ROUNDING = 1e-9  # so that a number which is whole but for its rounding error is not rounded down


def beams_left(schedule: BeamSchedule, beams: int, share: float) -> int:
    """Return how many of O beams are left at a share u of the steps: O at u = 0, and 1 at u = 1 unless "constant".

    Li et al. 2025, arXiv:2503.02039: ``O^(1 - u)``, ``O - u (O - 1)`` or ``1 + (O - 1) (1 - u)^2``, rounded down. The
    "sigmoid" falls as ``1 / (1 + exp(10 (u - 1/2)))``, stretched to end at O and at 1.

    Args:
        schedule: "exponential", "linear", "quadratic", "sigmoid" or "constant".
        beams: Number O of beams at the start, at least 1.
        share: Share u of the steps, in [0, 1].
    """
    highest = 1 / (1 + math.exp(-STEEPNESS / 2))
    falling = (1 / (1 + math.exp(STEEPNESS * (share - 0.5))) - (1 - highest)) / (2 * highest - 1)
    left = {
        "exponential": beams ** (1 - share),
        "linear": beams - share * (beams - 1),
        "quadratic": 1 + (beams - 1) * (1 - share) ** 2,
        "sigmoid": 1 + (beams - 1) * falling,
        "constant": float(beams),
    }
    return max(1, math.floor(left[schedule] + ROUNDING))


def searched_steps(schedule: SearchSchedule, steps: int) -> list[bool]:
    """Return which of T steps are searched.

    The paper searches step i with a probability p_i, which is ``1 - exp(-3 u)`` with ``u = i / (T - 1)``
    ("exponential"), ``(i + 10) / (T - 1)`` ("linear") or 1 ("all"). Here a step is searched where the sum of p_0 ...
    p_i reaches the next whole number. So as many steps are searched as the paper expects, rounded down, and a budget
    is the same every time.

    Args:
        schedule: "exponential", "linear" or "all".
        steps: Number T of steps, at least 1.
    """
    last = max(steps - 1, 1)
    rates = {
        "exponential": [1 - math.exp(-3 * step / last) for step in range(steps)],
        "linear": [min((step + 10) / last, 1.0) for step in range(steps)],
        "all": [1.0] * steps,
    }
    searched, total = [], 0.0
    for rate in rates[schedule]:
        searched.append(math.floor(total + rate + ROUNDING) > math.floor(total + ROUNDING))
        total += rate
    return searched
