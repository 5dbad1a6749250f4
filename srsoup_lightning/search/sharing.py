"""Sharing policies: which trajectory uses which other trajectory's search gradient.

They tell the weighted sum, the paper's soup and their extensions apart, which are one sampler otherwise.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.search.closeness import Measure, bhattacharyya, preview_closeness

PHASE = 0.4  # share of the steps that the paper's soup phase takes: 20 of 50


@dataclass(frozen=True)
class StepState:
    """State of all trajectories at a denoising step, as far as policies see it.

    Attributes:
        step: Index of the denoising step. 0 is the noisiest.
        steps: Number T of denoising steps.
        means: Mean of each trajectory's transition, (P, C, H, W).
        previews: Clean latents that the step's own prediction has, (P, C, H, W).
        sigma: Standard deviation of the transition, above 0.
        preferences: Weights of each trajectory's preference, (P, M). With anchors, row j < M is one-hot at j.
        counts: Number of candidates whose reward each trajectory would know, (P, M). These are the candidates that it
            would ask about, see :meth:`Sharing.counts`, or all where a surrogate predicts the others.
    """

    step: int
    steps: int
    means: Tensor
    previews: Tensor
    sigma: float
    preferences: Tensor
    counts: Tensor

    @cached_property
    def preview_closeness(self) -> Tensor:
        """:func:`preview_closeness` of the previews, (P, P). It is computed once."""
        return preview_closeness(self.previews)

    def closeness(self, measure: Measure) -> Tensor:
        """Return the closeness of every pair of trajectories, symmetric (P, P) in [0, 1], 1 where they agree.

        Args:
            measure: "previews" compares the clean latents, see :func:`preview_closeness`. "means" takes the
                Bhattacharyya coefficient per dimension of the transitions, which falls with sigma.
        """
        return bhattacharyya(self.means, self.means, self.sigma) if measure == "means" else self.preview_closeness


class Sharing(abc.ABC):
    """Policy that weighs, at every step, each trajectory's search gradients for each preference.

    Attributes:
        anchors: Whether the one-hot preferences run even if nobody asked for their pictures.
        own_noise: Whether each trajectory draws candidates of its own. If not, all trajectories share one set.
    """

    anchors: ClassVar[bool] = True
    own_noise: ClassVar[bool] = False

    @abc.abstractmethod
    def share(self, state: StepState) -> Tensor:
        """Return sharing weights (P, P, M), at least 0: [p, s, j] weighs the gradient of s on reward j for p."""

    def counts(self, candidates: int, preferences: Tensor) -> Tensor:
        """Return the number of candidates that a trajectory asks each reward about if any trajectory uses them.

        Args:
            candidates: Number N of candidates.
            preferences: Weights of each trajectory's preference, (P, M).

        Returns:
            (P, M) in 0 ... N.
        """
        return torch.full_like(preferences, candidates, dtype=torch.long)


def share_own(preferences: Tensor) -> Tensor:
    """Return sharing weights (P, P, M) with which each trajectory uses its own gradients, for preferences (P, M)."""
    trajectories, rewards = preferences.shape
    own = torch.eye(trajectories, dtype=preferences.dtype, device=preferences.device)
    return own.unsqueeze(-1).repeat(1, 1, rewards)


def share_anchors(preferences: Tensor) -> Tensor:
    """Return sharing weights (P, P, M) with which all use anchor j's gradient on reward j, for preferences (P, M)."""
    trajectories, rewards = preferences.shape
    share = preferences.new_zeros(trajectories, trajectories, rewards)
    for reward in range(rewards):
        share[:, reward, reward] = 1
    return share


@dataclass(frozen=True)
class Never(Sharing):
    """Each preference asks for itself at every step: the weighted sum. Queries grow with the number of preferences."""

    anchors: ClassVar[bool] = False

    def share(self, state: StepState) -> Tensor:
        """See :meth:`Sharing.share`."""
        return share_own(state.preferences)


@dataclass(frozen=True)
class FixedSoup(Sharing):
    """All use the anchors' gradients in steps start <= step < end, and their own before and after: the paper's SRSoup.

    Yao et al. 2026, Sample Reward Soups, algorithm 1.

    Args:
        start: First step of the soup phase. 0 is the noisiest.
        end: First step after the phase. `start` makes the phase empty. None takes 40 % of the steps, which is 20 of 50
            as in the paper.

    Raises:
        ValueError: The start is negative, or the end lies before it.
    """

    start: int = 0
    end: int | None = None

    def __post_init__(self) -> None:
        if self.start < 0 or (self.end is not None and self.end < self.start):
            raise ValueError(f"FixedSoup({self.start}, {self.end}) is no phase: give 0 <= start <= end, e.g. 0 and 20")

    def share(self, state: StepState) -> Tensor:
        """See :meth:`Sharing.share`."""
        end = round(PHASE * state.steps) if self.end is None else self.end
        shared = self.start <= state.step < end
        return share_anchors(state.preferences) if shared else share_own(state.preferences)
