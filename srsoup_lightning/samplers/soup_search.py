"""Candidates of a step of a soup, and the findings of a search among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from srsoup_lightning.samplers.result import Observation
from srsoup_lightning.search.candidates import Points, Sources
from srsoup_lightning.search.sharing import StepState


class Asked(NamedTuple):
    """Candidates of S sources, B of which are previewed.

    Attributes:
        state: State of the P trajectories.
        points: Points that they stand at.
        sources: The sources.
        draws: Noise of the candidates, common to all sources (N, C, H, W) or own to each one, (S, N, C, H, W).
        first_draw: Noise that replaces a direction of zeros, (P or 1, C, H, W).
        heard: Sharing weights of the sources, (P, S, M).
        asked: Candidates that each reward is asked about, bool (S, M, N).
        latents: Candidates that are previewed, (B, C, H, W).
        previewed: Which candidates these are, bool (S, N).
        reused: Noise (B, C, H, W) that their previews reuse. None where they reuse none.
        served: Preferences (B, M) that the model serves. None where it depends on none.
    """

    state: StepState
    points: Points
    sources: Sources
    draws: Tensor
    first_draw: Tensor
    heard: Tensor
    asked: Tensor
    latents: Tensor
    previewed: Tensor
    reused: Tensor | None
    served: Tensor | None


class Searched(NamedTuple):
    """Findings of a search around P trajectories.

    Attributes:
        direction: Directions before their projection, (P, C, H, W), 0 where nothing was searched.
        fallback: Noise that replaces a direction of zeros, (P or 1, C, H, W).
        rewards: Mean rewards of the candidates, (P, M), NaN where none was asked about.
        gradients: See :class:`~srsoup_lightning.samplers.result.Observation`.
        ancestors: Trajectory that each one goes on from after the step, (P,). None where each goes on from its own.
    """

    direction: Tensor
    fallback: Tensor
    rewards: Tensor
    gradients: Callable[[], Tensor]
    ancestors: Tensor | None = None

    @classmethod
    def nothing(cls, state: StepState, fallback: Tensor) -> Searched:
        """Return the findings where no reward is searched for."""
        zeros = torch.zeros_like(state.means)
        each = zeros.unsqueeze(1).expand(-1, state.preferences.shape[1], -1, -1, -1)
        return cls(zeros, fallback, torch.full_like(state.preferences, torch.nan), lambda: each)

    def observation(self, state: StepState, x: Tensor) -> Observation:
        """Return the observations of a step that used these findings alone."""
        return Observation(state, self.rewards, x, self.gradients, self.ancestors)

    def resampled(self, following: Tensor) -> Tensor:
        """Return the latents (P, C, H, W) that trajectories go on from, of those that they stepped to."""
        return following if self.ancestors is None else following[self.ancestors]
