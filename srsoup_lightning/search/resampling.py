"""Resampling of weighted particles, in log space."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rewards.checks import require_choice

Resampler = Literal["multinomial", "systematic"]


def resample(log_weights: Tensor, uniform: Tensor, resampler: Resampler = "systematic") -> Tensor:
    """Draw the ancestors (K,) of K new particles in proportion to their weights.

    Each particle is expected to have ``K w_k`` offspring. Systematic resampling (Carpenter et al. 1999) gives it that
    number rounded down or up. Multinomial resampling draws each ancestor independently.

    Args:
        log_weights: Log-weights (K,) up to a constant.
        uniform: Uniform numbers in [0, 1), (K,). Systematic resampling uses the first one.
        resampler: "systematic" or "multinomial".

    Raises:
        ValueError: The resampler is unknown.
    """
    require_choice("resampler", resampler, Resampler)
    count = len(log_weights)
    cumulative = log_weights.double().softmax(0).cumsum(0)
    positions = uniform.to(cumulative)
    if resampler == "systematic":
        positions = (torch.arange(count, device=cumulative.device) + positions[0]) / count
    return torch.searchsorted(cumulative, positions, right=True).clamp_max(count - 1)
