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
from srsoup_lightning.search.directions import TINY
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
        probes: Number of pictures of disturbed noise that estimate the gradient of a reward without one. 0 makes none.
        disturbance: Standard deviation of the noise that disturbs it, above 0.
    """

    evaluator: Evaluator
    noise: NoiseSource
    method: str
    checkpointing: bool
    probes: int = 0
    disturbance: float = 0.01

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

    def ascents(self, noises: Tensor, penalty: Penalty, purpose: object = "ascent") -> Pictures:
        """Draw pictures from noises (P, n, C, H, W), with the gradients of their values minus penalties.

        The graph of one batch is in memory at once. Probes are drawn for the purpose.

        Raises:
            NoGradientError: A reward has no gradient.
            RewardError: A reward failed, or a gradient is not finite.
        """
        problem, weights = self.evaluator.problem, self.evaluator.value.weights
        clean, rewards, ascent = torch.empty_like(noises[:, 0]), torch.zeros_like(weights), torch.empty_like(noises)
        penalties = torch.zeros_like(weights[:, 0])

        def work(rows: Tensor) -> None:
            found = self._ascents(noises[rows], rows, penalty, purpose)
            clean[rows], rewards[rows], penalties[rows], ascent[rows] = found

        asked = weights > 0
        for pattern in asked.unique(dim=0):  # so that no reward is asked about a picture that it has no weight for
            for _ in problem.batch.chunks(work, (asked == pattern).all(1).nonzero().flatten()):
                pass
        return Pictures(clean, rewards, penalties, ascent)

    def _ascents(self, noises: Tensor, rows: Tensor, penalty: Penalty, purpose: object) -> tuple[Tensor, ...]:
        """Clean latents, rewards, penalties and gradients of preferences with weight for the same rewards."""
        problem, steps = self.evaluator.problem, self.evaluator.problem.kernel.steps
        asked = self.evaluator.value.weights[rows] > 0
        smooth = self._smooth(asked[0])
        probed = self._probe(noises, asked, purpose)
        with problem.graph(self.method, smooth, checkpointing=self.checkpointing):
            here = problem.variable(noises)
            clean, predicted = self.draw(here)
            rewards = self._rewards(clean, smooth, asked, probed)
            values = self._copy(rows).values(rewards.unsqueeze(1), clean.unsqueeze(1), steps).squeeze(1)
            penalties = penalty(here, predicted)
            ascent = problem.gradient(values - penalties, here, "the value of the picture", predictions=steps)
        return clean.detach(), rewards.detach(), penalties.detach(), ascent

    def _smooth(self, asked: Tensor) -> list[str]:
        """Names of the rewards that are asked (M,) whose gradients are computed: all, unless there are probes."""
        problem = self.evaluator.problem
        names = [name for name, own in zip(problem.rewards, asked.tolist(), strict=True) if own]
        return [name for name in names if not self.probes or name in problem.oracle.differentiable]

    def _probe(self, noises: Tensor, asked: Tensor, purpose: object) -> list[tuple[Tensor, Tensor]]:
        """Clean latents (B, C, H, W) and rewards (B, M) of noise that is disturbed, for rewards without a gradient."""
        problem, found = self.evaluator.problem, list[tuple[Tensor, Tensor]]()
        columns = [name not in self._smooth(asked[0]) for name in problem.rewards]
        asked = asked & torch.tensor(columns, dtype=torch.bool, device=asked.device)
        for number in range(self.probes if asked.any() else 0):
            disturbed = noises + self.disturbance * self.noise.normal(noises.shape[1], "probe", purpose, number)
            clean, _ = self.draw(disturbed)
            found.append((clean, problem.query(clean, problem.kernel.steps, asked)))
        return found

    def _rewards(self, clean: Tensor, smooth: list[str], asked: Tensor, probed: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Rewards (B, M) of clean latents (B, C, H, W) with the graph, and 0 where not asked.

        A reward without gradient is linear around the latents, with the slope that the probes have: their changes,
        weighed by the changes of the reward (Tang et al. 2024, arXiv:2405.18881, section 5).
        """
        problem, steps = self.evaluator.problem, self.evaluator.problem.kernel.steps
        columns = [problem.rewards.index(name) for name in smooth]
        rewards = clean.new_zeros(asked.shape)
        if smooth:
            index = torch.tensor(columns, dtype=torch.int64, device=clean.device)
            rewards = rewards.index_copy(1, index, problem.rewards_of(clean, steps, smooth))
        if not probed:
            return rewards
        others = asked.clone()
        others[:, columns] = False
        centre = clean.detach()
        known = problem.query(centre, steps, others)
        changes = torch.stack([latents - centre for latents, _ in probed])  # (q, B, C, H, W)
        rises = torch.stack([scores - known for _, scores in probed])  # (q, B, M)
        variance = changes.square().flatten(2).mean(2).mean(0).clamp_min(TINY)
        slopes = torch.einsum("qbm,qbchw->bmchw", rises, changes) / len(probed) / variance.view(-1, 1, 1, 1, 1)
        return rewards + known + torch.einsum("bmchw,bchw->bm", slopes, clean - centre)

    def _copy(self, rows: Tensor) -> Evaluator:
        """Evaluator of some preferences, whose tensors can be saved for a gradient: inference mode made the others."""
        evaluator = self.evaluator.only(rows)
        value = evaluator.value
        units = value.units and Units(value.units.zero.clone(), value.units.unit.clone())
        evaluator.value = replace(value, weights=value.weights.clone(), units=units)
        return evaluator

    def first(self, noises: Tensor, penalty: Penalty) -> Pictures:
        """Draw the picture of noise (n, C, H, W) where all preferences stand, with the gradients of :meth:`ascents`.

        Each reward is differentiated once for all preferences. Without units, the length of this gradient becomes the
        unit of the reward, and the reward its zero. Distances from the unsteered picture have no gradient here, since
        this is that picture. So penalties are differentiated with respect to the noise alone.

        Raises:
            NoGradientError: A reward has no gradient.
            RewardError: A reward failed, or a gradient is not finite.
        """
        problem, steps = self.evaluator.problem, self.evaluator.problem.kernel.steps
        weighed, noises = self.evaluator.value.weights > 0, noises.unsqueeze(0)
        asked, count = weighed.any(0, keepdim=True), len(weighed)
        smooth, probed = self._smooth(asked[0]), self._probe(noises, asked, "first")
        columns, found = asked[0].nonzero().flatten().tolist(), list[Tensor]()
        with problem.graph(self.method, smooth, checkpointing=self.checkpointing):
            here = problem.variable(noises)
            clean, predicted = self.draw(here)
            rewards = self._rewards(clean, smooth, asked, probed)
            for number, column in enumerate(columns):
                of, more = f"reward {problem.rewards[column]!r}", number + 1 < len(columns)
                found.append(problem.gradient(rewards[:, column], here, of, more, steps))
            penalties, pull = penalty(here, predicted.detach()), torch.zeros_like(here)
            if penalties.requires_grad:
                pull = problem.gradient(penalties, here, "the penalty", predictions=0)
        gradients = noises.new_zeros(asked.shape[1], *noises.shape[1:])
        gradients[columns] = torch.cat(found)
        clean, rewards, penalties = (
            each.detach().expand(count, *each.shape[1:]) for each in (clean, rewards, penalties)
        )
        self._settle_units(rewards[0], gradients)
        slopes = self.evaluator.value.slopes(rewards.unsqueeze(1)).squeeze(1)
        ascent = torch.einsum("pm,m...->p...", slopes, gradients) - pull
        return Pictures(clean, rewards * weighed, penalties, ascent)

    def _settle_units(self, rewards: Tensor, gradients: Tensor) -> None:
        """Where there are no units, let them be the lengths of gradients (M, n, C, H, W) at rewards (M,)."""
        if self.evaluator.value.units is None:
            lengths = torch.linalg.vector_norm(gradients.flatten(1), dim=1)
            units = Units(rewards, torch.where(lengths > 0, lengths, torch.inf))
            self.evaluator.value = replace(self.evaluator.value, units=units)
