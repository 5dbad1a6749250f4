"""Lending candidates: few each make one good estimate together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.search.closeness import Measure, closeness, require_measure
from srsoup_lightning.search.gradient import Correction
from srsoup_lightning.search.selection import Selection
from srsoup_lightning.search.shaping import ShapingKind
from srsoup_lightning.search.sharing import Sharing, StepState
from srsoup_lightning.search.surrogate import Surrogate


@dataclass(frozen=True)
class Pooled(Sharing):
    """Everyone draws candidates of its own and listens to everyone, the less the farther away.

    Where trajectories are close, few candidates each make one good estimate together; where they have parted, each is
    left with its own. A trajectory spends its queries where its preference's weight is.

    Args:
        power: The sharing weight is the closeness to this power, at least 0; 0 listens to everyone alike, a large one
            to oneself.
        measure: What is compared, see :func:`srsoup_lightning.search.closeness.closeness`: "means" pools widely in the
            early steps, which keeps the trajectories together; "previews" pools alike in all.
        proportional: Ask about a reward as many of the candidates as it has weight, at least 2 where it has any: N
            queries a step in all but rounding, not N for each reward. If not, all candidates are asked about every
            reward with weight.

    Raises:
        ValueError: A negative or infinite power, or an unknown measure.
    """

    power: float = 1.0
    measure: Measure = "means"
    proportional: bool = True

    own_noise: ClassVar[bool] = True
    shaping: ClassVar[ShapingKind] = "pool"
    correction: ClassVar[Correction] = "none"

    def __post_init__(self) -> None:
        if not 0 <= self.power < torch.inf:
            raise ValueError(f"power is {self.power}: give a finite number, at least 0, e.g. 1")
        require_measure(self.measure)

    def counts(self, candidates: int, preferences: Tensor) -> Tensor:
        """See :meth:`Sharing.counts`."""
        everything = torch.full_like(preferences, candidates)
        asked = (preferences * candidates).round().clamp_min(2) if self.proportional else everything
        return torch.where(preferences > 0, asked, 0).long()

    def share(self, standing: StepState) -> Tensor:
        """See :meth:`Sharing.share`.

        A sum over suppliers of closeness k times their gradients, each ``counts - 1`` degrees of freedom strong where
        the supplier's own reward gradient agrees with the on_step's to degree k, is divided by its expected length
        along the on_step's gradient, ``sum_s k^2 (counts - 1)``. So each reward's estimate has no more say than its
        weight, however many supply it.
        """
        k = (closeness(standing, self.measure) ** self.power).unsqueeze(-1) * (standing.counts > 0)
        strength = torch.einsum("psj,psj,sj->pj", k, k, (standing.counts - 1).clamp_min(0).to(k.dtype))
        return k / strength.clamp_min(torch.finfo(k.dtype).tiny ** 0.5).unsqueeze(1)


@dataclass(frozen=True)
class Auto(Pooled):
    """What proved best for few queries: start from the best of a pool, pool candidates, predict most of their rewards.

    Less than a fifth of the weighted sum's queries, for 0.9 to 1 of its network evaluations. Where the network is what
    is dear, take :class:`Pooled`, which saves on both.
    """

    candidates: ClassVar[int] = 5
    surrogate: ClassVar[Surrogate] = Surrogate()
    selection: ClassVar[Selection] = Selection()
