"""Who listens to whom: the policies that make one sampler the weighted sum, the paper's soup and what lies beyond."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.search.closeness import preview_closeness
from srsoup_lightning.search.gradient import Correction
from srsoup_lightning.search.selection import Selection
from srsoup_lightning.search.shaping import ShapingKind
from srsoup_lightning.search.surrogate import Surrogate


@dataclass(frozen=True)
class StepState:
    """Where all trajectories stand at a denoising step: what a policy may look at.

    Attributes:
        step: Index of the denoising step, 0 the noisiest.
        means: Where each trajectory's transition is centred, (P, C, H, W).
        previews: The clean latents that the trajectories are heading for, as the step's own prediction has them,
            (P, C, H, W).
        sigma: Standard deviation of the transition, above 0.
        preferences: Weights of each trajectory's preference, (P, M); with anchors, row j < M is one-hot at j.
        counts: Of how many candidates each trajectory would know each reward, (P, M): those it would ask about, see
            :meth:`Sharing.counts`, or all where a surrogate predicts the others.
    """

    step: int
    means: Tensor
    previews: Tensor
    sigma: float
    preferences: Tensor
    counts: Tensor

    @cached_property
    def preview_closeness(self) -> Tensor:
        """:func:`preview_closeness` of the previews, (P, P); computed once, for the policy and for onlookers."""
        return preview_closeness(self.previews)


class Sharing(abc.ABC):
    """Says, at every step, how much each preference listens to each trajectory about each reward.

    Attributes:
        anchors: Whether the one-hot preferences must run even if nobody asked for their pictures.
        own_noise: Whether each trajectory draws candidates of its own; if not, all share one set of draws.
        candidates: How many candidates suit the policy, where the user gives no number.
        shaping: The shaping that suits it, where the user names none.
        correction: How borrowed candidates are seen, where the user names none.
        surrogate: What predicts unasked rewards, where the user names none.
        selection: How trajectories start, where the user names none.
    """

    anchors: ClassVar[bool] = True
    own_noise: ClassVar[bool] = False
    candidates: ClassVar[int | tuple[int, ...]] = 30
    shaping: ClassVar[ShapingKind] = "std"
    correction: ClassVar[Correction] = "exact"
    surrogate: ClassVar[Surrogate | None] = None
    selection: ClassVar[Selection | None] = None

    @abc.abstractmethod
    def share(self, standing: StepState) -> Tensor:
        """Sharing weights (P, P, M), at least 0: how much p listens to s about reward j."""

    def counts(self, candidates: int, preferences: Tensor) -> Tensor:
        """How many of its candidates a trajectory asks about each reward if anyone listens, (P, M), 0 ... candidates.

        Args:
            candidates: N.
            preferences: Weights of each trajectory's preference, (P, M).
        """
        return torch.full_like(preferences, candidates, dtype=torch.long)


def listen_to_self(preferences: Tensor) -> Tensor:
    """(P, P, M): every trajectory asks every reward itself."""
    trajectories, rewards = preferences.shape
    own = torch.eye(trajectories, dtype=preferences.dtype, device=preferences.device)
    return own.unsqueeze(-1).repeat(1, 1, rewards)


def listen_to_anchors(preferences: Tensor) -> Tensor:
    """(P, P, M): about reward j, everyone listens to anchor j, the j-th trajectory."""
    trajectories, rewards = preferences.shape
    share = preferences.new_zeros(trajectories, trajectories, rewards)
    for reward in range(rewards):
        share[:, reward, reward] = 1
    return share


@dataclass(frozen=True)
class Never(Sharing):
    """Every preference asks for itself at every step: the weighted sum. Queries grow with the preferences."""

    anchors: ClassVar[bool] = False

    def share(self, standing: StepState) -> Tensor:
        """See :meth:`Sharing.share`."""
        return listen_to_self(standing.preferences)


@dataclass(frozen=True)
class FixedSoup(Sharing):
    """Everyone listens to the anchors while start <= step < end, and to itself before and after: the paper's SRSoup.

    Yao et al. 2026, Sample Reward Soups, algorithm 1.

    Args:
        start: First step of the soup phase, 0 the noisiest.
        end: First step after it; `start` makes the phase empty.

    Raises:
        ValueError: A negative start, or an end before it.
    """

    start: int = 0
    end: int = 20

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"FixedSoup({self.start}, {self.end}) is no phase: give 0 <= start <= end, e.g. 0 and 20")

    def share(self, standing: StepState) -> Tensor:
        """See :meth:`Sharing.share`."""
        listen = listen_to_anchors if self.start <= standing.step < self.end else listen_to_self
        return listen(standing.preferences)
