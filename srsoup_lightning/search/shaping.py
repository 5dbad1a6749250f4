"""From the rewards of N candidates to the weights of their noises in a search gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

ShapingKind = Literal["std", "pool", "tanh", "minmax", "ranks"]

EPSILON = 1e-8


def standardise(rewards: Tensor, asked: Tensor | None = None) -> Tensor:
    """Rewards (..., N) centred and divided by their population standard deviation; equal rewards become 0."""
    kept = _kept(rewards, asked)
    centred = _centred(rewards, kept)
    spread = _mean(centred.square(), kept).sqrt()
    return _zero_if_equal(rewards, kept, centred / (spread + EPSILON))


def pool(rewards: Tensor, asked: Tensor | None = None) -> Tensor:
    """Rewards (..., S, N) centred per supplier and divided by one standard deviation for all suppliers.

    A standard deviation of two or three candidates says next to nothing, and dividing by it throws away how far they
    are apart; that of all suppliers together, within suppliers, is as good as one of many candidates.
    """
    kept = _kept(rewards, asked)
    centred = _zero_if_equal(rewards, kept, _centred(rewards, kept))
    return centred / (_spread(centred, kept)[..., None, None] + EPSILON)


def deviation_within(rewards: Tensor, asked: Tensor | None = None) -> Tensor:
    """One standard deviation for all suppliers, (...), of rewards (..., S, N) about each supplier's own mean."""
    kept = _kept(rewards, asked)
    return _spread(_zero_if_equal(rewards, kept, _centred(rewards, kept)), kept)


def squash(rewards: Tensor, asked: Tensor | None = None) -> Tensor:
    """Tanh of the standardised rewards (..., N): an outlier pulls no harder than 1."""
    return standardise(rewards, asked).tanh()


def minmax(rewards: Tensor, asked: Tensor | None = None) -> Tensor:
    """Rewards (..., N) scaled to [0, 1], then centred; equal rewards become 0."""
    kept = _kept(rewards, asked)
    low, high = _bounds(rewards, kept)
    scaled = (rewards - low) / (high - low + EPSILON)
    return _zero_if_equal(rewards, kept, _centred(scaled, kept))


def ranks(rewards: Tensor, asked: Tensor | None = None) -> Tensor:
    """Centred ranks in [-1/2, 1/2] (..., N), ties sharing their mean rank: only the order of the rewards counts.

    Salimans et al. 2017, arXiv:1703.03864, section 2.1.
    """
    kept = _kept(rewards, asked)
    others = kept.unsqueeze(-2)
    above = ((rewards.unsqueeze(-1) > rewards.unsqueeze(-2)) & others).sum(-1)
    below = ((rewards.unsqueeze(-1) < rewards.unsqueeze(-2)) & others).sum(-1)
    rivals = (kept.sum(-1, keepdim=True) - 1).clamp_min(1)
    return (above - below).to(rewards.dtype) / (2 * rivals) * kept


def _kept(rewards: Tensor, asked: Tensor | None) -> Tensor:
    return torch.ones_like(rewards, dtype=torch.bool) if asked is None else asked


def _mean(values: Tensor, kept: Tensor) -> Tensor:
    return (values * kept).sum(-1, keepdim=True) / kept.sum(-1, keepdim=True).clamp_min(1)


def _centred(rewards: Tensor, kept: Tensor) -> Tensor:
    return (rewards - _mean(rewards, kept)) * kept


def _bounds(rewards: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    low = rewards.masked_fill(~kept, torch.inf).amin(-1, keepdim=True)
    return low, rewards.masked_fill(~kept, -torch.inf).amax(-1, keepdim=True)


def _spread(centred: Tensor, kept: Tensor) -> Tensor:
    freedom = (kept.sum(-1) - 1).clamp_min(0).sum(-1).clamp_min(1)
    return (centred.square().sum((-2, -1)) / freedom).sqrt()


def _zero_if_equal(rewards: Tensor, kept: Tensor, shaped: Tensor) -> Tensor:
    # The mean of equal floats may miss them by a rounding error, which dividing by the spread would blow up.
    low, high = _bounds(rewards, kept)
    return torch.where(low < high, shaped, torch.zeros_like(shaped))


_KINDS = {"std": standardise, "pool": pool, "tanh": squash, "minmax": minmax, "ranks": ranks}


@dataclass(frozen=True)
class Shaping:
    """How the rewards of N candidates become weights.

    Args:
        kind: "std" standardises (the paper), "pool" takes the standard deviation of all suppliers together, which is
            better where each has few candidates, "tanh" tames outliers, "minmax" scales to the range, "ranks" keeps
            the order alone.
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

    def __call__(self, rewards: Tensor, asked: Tensor | None = None) -> Tensor:
        """The weights (..., S, N) of S suppliers' candidates: zero where one doesn't count or all rewards are equal.

        Args:
            rewards: Of N candidates of S suppliers, (..., S, N).
            asked: Which of them were asked, bool (..., S, N); None for all. The others don't count.
        """
        weights = _KINDS[self.kind](rewards, asked)
        if self.target is not None:
            weights = weights * (rewards > self.target)
        if self.top_fraction < 1:
            kept = _kept(rewards, asked)
            count = (self.top_fraction * kept.sum(-1, keepdim=True)).round().clamp_min(1)
            place = rewards.masked_fill(~kept, -torch.inf).argsort(stable=True, dim=-1, descending=True).argsort(-1)
            weights = weights * (place < count)
        return weights
