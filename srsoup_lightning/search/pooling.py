"""Pooling of candidates: the few candidates of each trajectory make one good estimate together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rewards.checks import require_choice
from srsoup_lightning.search.closeness import Measure
from srsoup_lightning.search.sharing import Sharing, StepState


@dataclass(frozen=True)
class Pooled(Sharing):
    """Each trajectory draws its own candidates and uses the gradients of all, weighted by their closeness.

    Where trajectories are close, few candidates of each make one good estimate together. Where they have parted, each
    is left with its own. A trajectory asks mostly the rewards that its preference weighs.

    Args:
        power: The sharing weight is the closeness to this power, at least 0. 0 weighs all trajectories alike. A large
            one leaves each trajectory its own gradients.
        measure: Measure of closeness, see :meth:`StepState.closeness`. "means" pools widely in the early steps, which
            keeps the trajectories together. "previews" pools alike in all steps.
        proportional: Ask a reward about a share of the candidates that equals its weight, at least about 2 where it has
            any weight. These are N queries a step, but for rounding, and not N for each reward. If False, ask every
            reward with weight about all candidates.

    Raises:
        ValueError: The power is negative or infinite, or the measure is unknown.
    """

    power: float = 1.0
    measure: Measure = "means"
    proportional: bool = True

    own_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.power < torch.inf:
            raise ValueError(f"power is {self.power}: give a finite number, at least 0, e.g. 1")
        require_choice("measure", self.measure, Measure)

    def counts(self, candidates: int, preferences: Tensor) -> Tensor:
        """See :meth:`Sharing.counts`."""
        everything = torch.full_like(preferences, candidates)
        asked = (preferences * candidates).round().clamp_min(2) if self.proportional else everything
        return torch.where(preferences > 0, asked, 0).long()

    def share(self, state: StepState) -> Tensor:
        """See :meth:`Sharing.share`.

        The closeness k weighs the gradients of the sources. Each gradient has ``counts - 1`` degrees of freedom, and
        agrees with the trajectory's own gradient to degree k. The sum is divided by its expected length along the own
        gradient, ``sum_s k^2 (counts - 1)``. So a reward has the influence of its weight, whatever the number of its
        sources.
        """
        k = (state.closeness(self.measure) ** self.power).unsqueeze(-1) * (state.counts > 0)
        strength = torch.einsum("psj,psj,sj->pj", k, k, (state.counts - 1).clamp_min(0).to(k.dtype))
        return k / strength.clamp_min(torch.finfo(k.dtype).tiny ** 0.5).unsqueeze(1)
