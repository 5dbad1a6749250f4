"""True gradients of differentiable rewards in place of the search gradients of a soup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.gradients import differentiate
from srsoup_lightning.search.candidates import distinct
from srsoup_lightning.search.directions import TINY, Conflicts, combine
from srsoup_lightning.search.sharing import StepState


class Steered(NamedTuple):
    """True gradients of P trajectories.

    Attributes:
        direction: Their part of the directions, before the projection, (P, C, H, W).
        rewards: Reward of each trajectory's preview, (P, M), NaN where not asked.
        gradients: Gradient of each reward that a trajectory uses, (P, M, C, H, W), 0 where it uses none.
    """

    direction: Tensor
    rewards: Tensor
    gradients: Tensor


@dataclass(frozen=True)
class TrueGradients:
    """Gradients of the previews' rewards, which trajectories share as they share search gradients.

    A search gradient of n candidates of a reward that is linear around a trajectory is n times the unit vector along
    the reward's gradient, plus noise. Its length is ``sqrt(n)`` times that of a draw for each unit of the former. So a
    true gradient is made n times a unit vector, and the noise is drawn once. Then the number of candidates says how
    strongly a step is steered, as for a search, and both kinds of gradients can be mixed.

    Args:
        problem: Denoising process and rewards.
        method: Name of the method, for errors.
        differentiable: Rewards that have gradients, bool (M,).
        conflicts: See :func:`~srsoup_lightning.search.directions.combine`.
        checkpointing: See :func:`~srsoup_lightning.samplers.gradients.differentiate`.
    """

    problem: Problem
    method: str
    differentiable: Tensor
    conflicts: Conflicts
    checkpointing: bool

    def steer(self, x: Tensor, state: StepState, share: Tensor, served: Tensor | None, z: Tensor) -> Steered:
        """Return the part of each trajectory's direction that comes from true gradients.

        A trajectory that some other one uses takes a prediction, and a query and a gradient evaluation of each reward
        that it is used for. Those at one point take it once.

        Args:
            x: Latents of the trajectories before the step, (P, C, H, W).
            state: State of the trajectories, whose counts are those of the candidates that a search would ask about.
            share: Sharing weights, (P, P, M).
            served: Preferences (P, M) that the model serves, where adapters make predictions depend on them.
            z: Noise (C, H, W).
        """
        used = (state.preferences.unsqueeze(1) * share > 0).any(0) & self.differentiable  # (P, M), of sources
        rows, index = distinct(x, served)
        asked = torch.zeros(len(rows), used.shape[1], dtype=torch.int64, device=x.device)
        asked = asked.index_add_(0, index, used.long()) > 0
        points = asked.any(1).nonzero().flatten()
        found = differentiate(
            self.problem,
            self.method,
            x[rows[points]],
            state.step,
            asked[points],
            checkpointing=self.checkpointing,
            preferences=None if served is None else served[rows[points]],
        )
        gradients = x.new_zeros(len(rows), used.shape[1], *x.shape[1:])
        gradients[points] = _unit(found.gradients)
        rewards = x.new_full(asked.shape, torch.nan, dtype=torch.float32)
        rewards[points] = torch.where(asked[points], found.rewards, torch.nan)
        coefficients = share * state.counts * self.differentiable
        each = torch.einsum("psm,sm...->pm...", coefficients, gradients[index])
        total = combine(each, state.preferences * self.differentiable, self.conflicts)
        length = torch.linalg.vector_norm(total.flatten(1), dim=1).view(-1, 1, 1, 1)
        noise = length / state.counts.amax().clamp_min(1).sqrt() * z  # as a search with so many candidates leaves it
        return Steered(total + noise, rewards[index], each)


def _unit(gradients: Tensor) -> Tensor:
    """Scale each gradient (..., C, H, W) to a length of 1. A gradient of zeros stays as it is."""
    length = torch.linalg.vector_norm(gradients.flatten(-3), dim=-1)
    return gradients / length.clamp_min(TINY)[..., None, None, None]
