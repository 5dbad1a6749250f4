"""From the rewards of N candidates to the weights of their noises in a search gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

ShapingKind = Literal["std", "tanh", "minmax", "ranks"]

EPSILON = 1e-8


def standardise(rewards: Tensor) -> Tensor:
    """Rewards (..., N) centred and divided by their population standard deviation; equal rewards become 0."""
    spread, mean = torch.std_mean(rewards, dim=-1, correction=0, keepdim=True)
    return _zero_if_equal(rewards, (rewards - mean) / (spread + EPSILON))


def squash(rewards: Tensor) -> Tensor:
    """Tanh of the standardised rewards (..., N): an outlier pulls no harder than 1."""
    return standardise(rewards).tanh()


def minmax(rewards: Tensor) -> Tensor:
    """Rewards (..., N) scaled to [0, 1], then centred; equal rewards become 0."""
    low, high = rewards.aminmax(dim=-1, keepdim=True)
    scaled = (rewards - low) / (high - low + EPSILON)
    return _zero_if_equal(rewards, scaled - scaled.mean(dim=-1, keepdim=True))


def ranks(rewards: Tensor) -> Tensor:
    """Centred ranks in [-1/2, 1/2] (..., N), ties sharing their mean rank: only the order of the rewards counts.

    Salimans et al. 2017, arXiv:1703.03864, section 2.1.
    """
    above = (rewards.unsqueeze(-1) > rewards.unsqueeze(-2)).sum(-1)
    below = (rewards.unsqueeze(-1) < rewards.unsqueeze(-2)).sum(-1)
    return (above - below).to(rewards.dtype) / (2 * max(rewards.shape[-1] - 1, 1))


def _zero_if_equal(rewards: Tensor, shaped: Tensor) -> Tensor:
    # The mean of equal floats may miss them by a rounding error, which dividing by the spread would blow up.
    equal = (rewards == rewards[..., :1]).all(dim=-1, keepdim=True)
    return torch.where(equal, torch.zeros_like(shaped), shaped)


_KINDS = {"std": standardise, "tanh": squash, "minmax": minmax, "ranks": ranks}


@dataclass(frozen=True)
class Shaping:
    """How the rewards of N candidates become weights.

    Args:
        kind: "std" standardises (the paper), "tanh" tames outliers, "minmax" scales to the range, "ranks" keeps the
            order alone.
        target: Only candidates whose reward is above this count; None lets all count.
        top_fraction: Of those, only this share of the N candidates, the best, count; in (0, 1].

    Raises:
        ValueError: An unknown kind, or a top_fraction outside (0, 1].
    """

    kind: ShapingKind = "std"
    target: float | None = None
    top_fraction: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"shaping {self.kind!r} is unknown: choose from {', '.join(get_args(ShapingKind))}")
        if not 0 < self.top_fraction <= 1:
            raise ValueError(f"top_fraction is {self.top_fraction}: give a share in (0, 1], e.g. 0.25")

    def __call__(self, rewards: Tensor) -> Tensor:
        """Rewards (..., N) to weights (..., N): zero where a candidate doesn't count or all rewards are equal."""
        weights = _KINDS[self.kind](rewards)
        if self.target is not None:
            weights = weights * (rewards > self.target)
        if self.top_fraction < 1:
            kept = max(1, round(self.top_fraction * rewards.shape[-1]))
            best = rewards.topk(kept, dim=-1).indices
            weights = weights * torch.zeros_like(weights).scatter(-1, best, 1.0)
        return weights
