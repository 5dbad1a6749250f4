"""Shaping: from the rewards of N candidates to the weights of their noise in a search gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rewards.checks import require_choice

ShapingKind = Literal["std", "pool", "tanh", "minmax", "ranks"]

EPSILON = 1e-8


def standardise(rewards: Tensor, asked: Tensor | None = None) -> Tensor:
    """Centre rewards (..., N) and divide them by their population standard deviation. Equal rewards become 0."""
    kept = _kept(rewards, asked)
    centred = _centred(rewards, kept)
    spread = _mean(centred.square(), kept).sqrt()
    return _zero_if_equal(rewards, kept, centred / (spread + EPSILON))


def pool(rewards: Tensor, asked: Tensor | None = None) -> Tensor:
    """Centre rewards (..., S, N) for each source, and divide them by one standard deviation for all sources.

    A standard deviation of two or three candidates says little, and dividing by it removes their distance. The
    standard deviation within sources, of all sources together, is as good as one of many candidates.
    """
    kept = _kept(rewards, asked)
    centred = _zero_if_equal(rewards, kept, _centred(rewards, kept))
    return centred / (_spread(centred, kept)[..., None, None] + EPSILON)


def deviation_within(rewards: Tensor, asked: Tensor | None = None) -> Tensor:
    """Return one standard deviation (...) for all sources, of rewards (..., S, N) about each source's own mean."""
    kept = _kept(rewards, asked)
    return _spread(_zero_if_equal(rewards, kept, _centred(rewards, kept)), kept)


def squash(rewards: Tensor, asked: Tensor | None = None) -> Tensor:
    """Return the tanh of standardised rewards (..., N). No outlier pulls harder than 1."""
    return standardise(rewards, asked).tanh()


def minmax(rewards: Tensor, asked: Tensor | None = None) -> Tensor:
    """Scale rewards (..., N) to [0, 1] and centre them. Equal rewards become 0."""
    kept = _kept(rewards, asked)
    low, high = _range(rewards, kept)
    scaled = (rewards - low) / (high - low + EPSILON)
    return _zero_if_equal(rewards, kept, _centred(scaled, kept))


def ranks(rewards: Tensor, asked: Tensor | None = None) -> Tensor:
    """Return centred ranks in [-1/2, 1/2], (..., N). Ties share their mean rank. Only the order of rewards counts.

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


def _range(rewards: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    low = rewards.masked_fill(~kept, torch.inf).amin(-1, keepdim=True)
    return low, rewards.masked_fill(~kept, -torch.inf).amax(-1, keepdim=True)


def _spread(centred: Tensor, kept: Tensor) -> Tensor:
    freedom = (kept.sum(-1) - 1).clamp_min(0).sum(-1).clamp_min(1)
    return (centred.square().sum((-2, -1)) / freedom).sqrt()


def _zero_if_equal(rewards: Tensor, kept: Tensor, shaped: Tensor) -> Tensor:
    # The mean of equal floats may differ from them by a rounding error. Dividing by the spread would enlarge it.
    low, high = _range(rewards, kept)
    return torch.where(low < high, shaped, torch.zeros_like(shaped))


_KINDS = {"std": standardise, "pool": pool, "tanh": squash, "minmax": minmax, "ranks": ranks}


@dataclass(frozen=True)
class Shaping:
    """Function from the rewards of N candidates to their weights.

    Args:
        kind: "std" standardises (the paper). "pool" takes the standard deviation of all sources together, which is
            better where each has few candidates. "tanh" limits outliers, "minmax" scales to the range, and "ranks"
            keeps the order alone.
        target: Only candidates with a reward above this count. None lets all count.
        top_fraction: Only this share of the N candidates, the best ones, counts, in (0, 1].

    Raises:
        ValueError: The kind is unknown, or top_fraction is outside (0, 1].
    """

    kind: ShapingKind = "std"
    target: float | None = None
    top_fraction: float = 1.0

    def __post_init__(self) -> None:
        require_choice("shaping", self.kind, ShapingKind)
        if not 0 < self.top_fraction <= 1:
            raise ValueError(f"top_fraction is {self.top_fraction}: give a share in (0, 1], e.g. 0.25")

    def __call__(self, rewards: Tensor, asked: Tensor | None = None) -> Tensor:
        """Return the weights (..., S, N) of candidates, 0 where one does not count or all rewards are equal.

        Args:
            rewards: Rewards of N candidates of each of S sources, (..., S, N).
            asked: Candidates that were asked about, bool (..., S, N). The others do not count. None is all.
        """
        weights = _KINDS[self.kind](rewards, asked)
        if self.target is not None:
            weights = weights * (rewards > self.target)
        if self.top_fraction < 1:
            kept = _kept(rewards, asked)
            count = (self.top_fraction * kept.sum(-1, keepdim=True)).round().clamp_min(1)
            rank = rewards.masked_fill(~kept, -torch.inf).argsort(stable=True, dim=-1, descending=True).argsort(-1)
            weights = weights * (rank < count)
        return weights
