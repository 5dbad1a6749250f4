"""Gradients of rewards at latents, for all preferences that stand there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from srsoup_lightning.diffusion.transition import Prediction
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.scalarised import Assessment, Evaluator
from srsoup_lightning.search.candidates import distinct
from srsoup_lightning.search.directions import Conflicts, combine, unit_rms


class Gradients(NamedTuple):
    """Rewards of the previews of latents (B, C, H, W), and their gradients with respect to the latents.

    Attributes:
        rewards: Rewards (B, M), 0 where not asked.
        gradients: Gradient of each reward, (B, M, C, H, W), 0 where not asked.
        prediction: Predictions at the latents, (B, C, H, W) each.
    """

    rewards: Tensor
    gradients: Tensor
    prediction: Prediction

    def at(self, index: Tensor) -> Gradients:
        """Return those of the latents of these indices."""
        parts = Prediction(self.prediction.x0[index], self.prediction.noise[index])
        return Gradients(self.rewards[index], self.gradients[index], parts)


def differentiate(
    problem: Problem,
    method: str,
    x: Tensor,
    level: int,
    asked: Tensor,
    *,
    through_network: bool = True,
    checkpointing: bool = False,
    preferences: Tensor | None = None,
) -> Gradients:
    """Preview latents, ask the rewards about the previews, and differentiate each reward by itself.

    The graph of one batch is in memory at once. Each reward that is asked takes one query of a latent and, through the
    network, one gradient evaluation.

    Args:
        problem: Denoising process and rewards.
        method: Name of the method, for errors.
        x: Latents (B, C, H, W) of a level.
        level: Their level, 0 ... T.
        asked: Rewards that each latent is asked about, at least one, bool (B, M).
        through_network: Whether x is previewed by the network. If not, x is clean already.
        checkpointing: Whether activations are computed again for the gradient, see :meth:`Problem.graph`.
        preferences: Preference (B, M) that the model serves at each latent, where adapters make that matter.

    Raises:
        NoGradientError: A reward has no gradient.
        RewardError: A reward failed, or its gradient is not finite.
    """
    found = Gradients(
        x.new_zeros(asked.shape, dtype=torch.float32),
        x.new_zeros(*asked.shape, *x.shape[1:]),
        Prediction(torch.empty_like(x), torch.zeros_like(x)),
    )

    def work(rows: Tensor, columns: list[int]) -> None:
        names, gradients = [problem.rewards[column] for column in columns], list[Tensor]()
        with problem.graph(method, names, checkpointing=checkpointing):
            here = problem.variable(x[rows])
            served = None if preferences is None else preferences[rows]
            preview = Prediction(here, torch.zeros_like(here))
            if through_network:
                preview = problem.preview(here, level, preferences=served)
            rewards = problem.rewards_of(preview.x0, level, names)
            for number, name in enumerate(names):
                of, more = f"reward {name!r} at denoising step {level}", number + 1 < len(names)
                gradients.append(problem.gradient(rewards[:, number], here, of, more, int(through_network)))
        for number, column in enumerate(columns):  # outside of the graph, since inference mode made these tensors
            found.gradients[rows, column], found.rewards[rows, column] = gradients[number], rewards[:, number].detach()
        found.prediction.x0[rows], found.prediction.noise[rows] = preview.x0.detach(), preview.noise.detach()

    for pattern in asked.unique(dim=0):
        work_on = partial(work, columns=pattern.nonzero().flatten().tolist())
        for _ in problem.batch.chunks(work_on, (asked == pattern).all(1).nonzero().flatten()):
            pass
    return found


def assess(
    evaluator: Evaluator, method: str, x: Tensor, level: int, checkpointing: bool = False
) -> tuple[Assessment, Tensor]:
    """Assess latents x (P, B, C, H, W) of a level by their previews, with the gradients of their values.

    Latents at one point share the gradients of the rewards. A penalty on the distance from the unsteered trajectory
    counts in the values and not in the gradients.

    Returns:
        Answers about the previews, and gradients (P, B, C, H, W).
    """
    flat = x.reshape(-1, *evaluator.problem.shape)
    rows, index = distinct(flat)
    asked = evaluator.asked(index)
    found = differentiate(evaluator.problem, method, flat[rows], level, asked, checkpointing=checkpointing)
    assessment = evaluator.answer(x, level, found.rewards, found.prediction, index)
    gradients = found.gradients[index].unflatten(0, x.shape[:2])
    return assessment, torch.einsum("pbm,pbm...->pb...", evaluator.value.slopes(assessment.rewards), gradients)


@dataclass(frozen=True)
class Guide:
    """Directions in which rewards rise, for P preferences. Preferences at one point share its gradients.

    Where the evaluator has no units, the gradient of each reward is scaled to a root mean square of 1. Where it has
    some, gradients are those of the rewards in these units.

    Args:
        evaluator: Value of latents to the preferences.
        method: Name of the method, for errors.
        conflicts: See :func:`~srsoup_lightning.search.directions.combine`.
        checkpointing: See :func:`differentiate`.
    """

    evaluator: Evaluator
    method: str
    conflicts: Conflicts = "ignore"
    checkpointing: bool = False

    def at(self, x: Tensor, level: int) -> tuple[Tensor, Prediction, Tensor]:
        """Return directions at latents x (P, C, H, W), the predictions there, and the values (P,) of the previews."""
        return self._found(x, level, True)

    def of_clean(self, clean: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Return directions at clean latents (P, C, H, W) predicted from those of a level, and their values (P,)."""
        direction, _, values = self._found(clean, level, False)
        return direction, values

    def _found(self, x: Tensor, level: int, through_network: bool) -> tuple[Tensor, Prediction, Tensor]:
        value, problem = self.evaluator.value, self.evaluator.problem
        rows, index = distinct(x)
        found = differentiate(
            problem,
            self.method,
            x[rows],
            level,
            self.evaluator.asked(index),
            through_network=through_network,
            checkpointing=self.checkpointing,
        ).at(index)
        if value.units is None:
            gradients = unit_rms(found.gradients)
        else:
            gradients = found.gradients / value.units.unit.view(-1, *[1] * (x.ndim - 1))
        values = value(found.rewards.unsqueeze(1)).squeeze(1)
        return combine(gradients, value.weights, self.conflicts), found.prediction, values
