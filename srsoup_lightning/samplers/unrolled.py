"""Pictures as functions of all the noise that they are made of, with gradients through the whole trajectory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.scalarised import Evaluator
from srsoup_lightning.search.scalarise import Units

Penalty = Callable[[Tensor, Tensor], Tensor]
"""From noise (B, n, C, H, W), and the noise (B, T, C, H, W) that the network predicted on the way, to values (B,)."""


class Pictures(NamedTuple):
    """Pictures of noise (P, n, C, H, W).

    Attributes:
        clean: Their final latents, (P, C, H, W).
        rewards: Their rewards (P, M), 0 where the preference has no weight.
        penalties: Penalties of the noise, (P,).
        ascent: Gradients of value minus penalty with respect to the noise, (P, n, C, H, W). None where not asked for.
    """

    clean: Tensor
    rewards: Tensor
    penalties: Tensor
    ascent: Tensor | None = None


def noises_of(problem: Problem, noise: NoiseSource, every_step: bool) -> Tensor:
    """Return the noise (n, C, H, W) of the unsteered picture: its start, and that of each step that draws some."""
    steps = range(problem.kernel.steps if every_step else 0)
    return torch.stack([noise.start(), *(noise.step(step) for step in steps if problem.kernel.sigma(step) > 0)])


@dataclass
class Unrolled:
    """Trajectories whose noise is given, one for each preference.

    Args:
        evaluator: Value of pictures to the preferences.
        noise: Source of the noise of the steps where it is not given.
        method: Name of the method, for errors.
        checkpointing: Whether activations are computed again for the gradient, see :meth:`Problem.graph`.
    """

    evaluator: Evaluator
    noise: NoiseSource
    method: str
    checkpointing: bool

    def draw(self, noises: Tensor) -> tuple[Tensor, Tensor]:
        """Draw pictures from noise (B, n, C, H, W): starts alone, or that of all steps with noise too.

        Returns:
            Final latents (B, C, H, W), and the noise that the network predicted on the way, (B, T, C, H, W).
        """
        kernel, denoise = self.evaluator.problem.kernel, self.evaluator.problem.denoise
        (x, *given), predicted = noises.unbind(1), list[Tensor]()
        for step in range(kernel.steps):
            prediction = denoise(x, step)
            predicted.append(prediction.noise)
            mean, sigma = kernel.transition(step, x, prediction)
            if sigma > 0:
                mean = mean + sigma * (given.pop(0) if noises.shape[1] > 1 else self.noise.step(step))
            x = mean
        return x, torch.stack(predicted, dim=1)

    def pictures(self, noises: Tensor, penalty: Penalty) -> Pictures:
        """Draw pictures from noises (P, n, C, H, W) and ask the rewards with weight about them."""
        problem = self.evaluator.problem
        clean, predicted = self.draw(noises)
        rewards = problem.query(clean, problem.kernel.steps, self.evaluator.value.weights > 0)
        return Pictures(clean, rewards, penalty(noises, predicted))

    def ascents(self, noises: Tensor, penalty: Penalty) -> Pictures:
        """Draw pictures from noises (P, n, C, H, W), with the gradients of their values minus penalties.

        The graph of one batch is in memory at once.

        Raises:
            NoGradientError: A reward has no gradient.
            RewardError: A reward failed, or a gradient is not finite.
        """
        problem, weights = self.evaluator.problem, self.evaluator.value.weights
        clean, rewards, ascent = torch.empty_like(noises[:, 0]), torch.zeros_like(weights), torch.empty_like(noises)
        penalties = torch.zeros_like(weights[:, 0])

        def work(rows: Tensor) -> None:
            found = self._ascents(noises[rows], rows, penalty)
            clean[rows], rewards[rows], penalties[rows], ascent[rows] = found

        asked = weights > 0
        for pattern in asked.unique(dim=0):  # so that no reward is asked about a picture that it has no weight for
            for _ in problem.batch.chunks(work, (asked == pattern).all(1).nonzero().flatten()):
                pass
        return Pictures(clean, rewards, penalties, ascent)

    def _ascents(self, noises: Tensor, rows: Tensor, penalty: Penalty) -> tuple[Tensor, ...]:
        """Clean latents, rewards, penalties and gradients of preferences with weight for the same rewards."""
        problem, steps = self.evaluator.problem, self.evaluator.problem.kernel.steps
        columns = self.evaluator.value.weights[rows[0]].nonzero().flatten()
        names = [problem.rewards[column] for column in columns.tolist()]
        with problem.graph(self.method, names, checkpointing=self.checkpointing):
            here = problem.variable(noises)
            clean, predicted = self.draw(here)
            found = problem.rewards_of(clean, steps, names)
            rewards = found.new_zeros(len(rows), len(problem.rewards)).index_copy(1, columns.clone(), found)
            evaluator = self._copy(rows)
            values = evaluator.values(rewards.unsqueeze(1), clean.unsqueeze(1), steps).squeeze(1)
            of = f"the value by {', '.join(names)}"
            penalties = penalty(here, predicted)
            ascent = problem.gradient(values - penalties, here, of, predictions=steps)
        return clean.detach(), rewards.detach(), penalties.detach(), ascent

    def _copy(self, rows: Tensor) -> Evaluator:
        """Evaluator of some preferences, whose tensors can be saved for a gradient: inference mode made the others."""
        evaluator = self.evaluator.only(rows)
        value = evaluator.value
        units = value.units and Units(value.units.zero.clone(), value.units.unit.clone())
        evaluator.value = replace(value, weights=value.weights.clone(), units=units)
        return evaluator

    def settle_units(self, noises: Tensor) -> None:
        """Let the unit of each reward be the length of its gradient at noise (n, C, H, W), and its zero the reward."""
        problem, steps = self.evaluator.problem, self.evaluator.problem.kernel.steps
        weighed = (self.evaluator.value.weights > 0).any(0).tolist()
        names = [name for name, own in zip(problem.rewards, weighed, strict=True) if own]
        with problem.graph(self.method, names, checkpointing=self.checkpointing):
            here = problem.variable(noises.unsqueeze(0))
            rewards = problem.rewards_of(self.draw(here)[0], steps, names)
            lengths = {}
            for number, name in enumerate(names):
                of, more = f"reward {name!r}", number + 1 < len(names)
                lengths[name] = float(problem.gradient(rewards[:, number], here, of, more, steps).norm())
        zeros = dict(zip(names, rewards[0].tolist(), strict=True))
        table = [[zeros.get(name, 0.0), lengths.get(name, 0.0) or torch.inf] for name in problem.rewards]
        units = Units(*torch.tensor(table, dtype=torch.float32, device=problem.device).T)
        self.evaluator.value = replace(self.evaluator.value, units=units)
