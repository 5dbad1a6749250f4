"""Resampling of weighted particles, in log space."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rewards.checks import require_choice

Resampler = Literal["multinomial", "systematic", "ssp", "rounding"]


def effective_sample_size(log_weights: Tensor) -> Tensor:
    """Return ``1 / sum w^2`` (...) of log-weights (..., K) up to a constant; between 1 and K."""
    return 1 / log_weights.double().softmax(-1).square().sum(-1)


def resample(log_weights: Tensor, uniform: Tensor, resampler: Resampler = "systematic") -> Tensor:
    """Draw the ancestors (K,) of K new particles in proportion to their weights.

    A particle is expected to have ``K w_k`` offspring. "multinomial" draws each ancestor independently. "systematic"
    (Carpenter et al. 1999) and "ssp" give it that number rounded down or up. So does "rounding", which draws nothing:
    the particles with the largest remainders have one more.

    Args:
        log_weights: Log-weights (K,) up to a constant.
        uniform: Uniform numbers in [0, 1), (K,). Systematic resampling uses the first one, "ssp" all but the last one.
        resampler: "multinomial", "systematic", "ssp" or "rounding".

    Raises:
        ValueError: The resampler is unknown.
    """
    require_choice("resampler", resampler, Resampler)
    count, weights = len(log_weights), log_weights.double().softmax(0)
    if resampler in ("ssp", "rounding"):
        expected = (count * weights).tolist()
        offspring = _ssp(expected, uniform.tolist()) if resampler == "ssp" else _largest_remainders(expected)
        ancestors = [index for index, number in enumerate(offspring) for _ in range(number)]
        return torch.tensor(ancestors, dtype=torch.int64, device=weights.device)
    positions = uniform.to(weights)
    if resampler == "systematic":
        positions = (torch.arange(count, device=weights.device) + positions[0]) / count
    return torch.searchsorted(weights.cumsum(0), positions, right=True).clamp_max(count - 1)


def _ssp(expected: list[float], uniform: list[float]) -> list[int]:
    """Round expected numbers of offspring by the Srinivasan sampling process, and keep their sum.

    Gerber, Chopin & Whiteley 2019, arXiv:1708.00830, section 4. The remainders are settled in pairs: one of the two
    becomes 0 or 1, the other one takes what is over, and neither changes on average.
    """
    offspring = [int(number) for number in expected]
    remainders = [number - whole for number, whole in zip(expected, offspring, strict=True)]
    pending = 0
    for other in range(1, len(expected)):
        a, b, drawn = remainders[pending], remainders[other], uniform[other - 1]
        total = a + b
        if total < 1:  # one of them gives its remainder to the other
            settled, pending = (pending, other) if total * drawn < b else (other, pending)
            remainders[settled], remainders[pending] = 0.0, total
        else:  # one of them gets an offspring
            settled, pending = (pending, other) if (2 - total) * drawn < 1 - b else (other, pending)
            offspring[settled] += 1
            remainders[settled], remainders[pending] = 0.0, total - 1
    if sum(offspring) < len(expected):  # the sum of the remainders is whole
        offspring[pending] += 1
    return offspring


def _largest_remainders(expected: list[float]) -> list[int]:
    """Round expected numbers of offspring down, and give what is over to the largest remainders."""
    offspring = [int(number) for number in expected]
    order = sorted(range(len(expected)), key=lambda index: offspring[index] - expected[index])
    for index in order[: len(expected) - sum(offspring)]:
        offspring[index] += 1
    return offspring


def soft_choice(values: Tensor, temperature: float, uniform: Tensor) -> Tensor:
    """Draw one of N for each row, (...), in proportion to ``exp(value / temperature)``.

    The draw is the highest of ``value / temperature`` plus Gumbel noise (Gumbel 1954). Rows with the same uniform
    numbers choose alike where their values are alike.

    Args:
        values: Values (..., N).
        temperature: At least 0. 0 takes the highest value.
        uniform: Uniform numbers in [0, 1), (N,), the same for all rows.
    """
    if temperature == 0:
        return values.argmax(-1)
    gumbel = -(-uniform.double().clamp_min(torch.finfo(torch.float64).tiny).log()).log()
    return (values.double() / temperature + gumbel).argmax(-1)
