"""Particle methods: several trajectories of one prompt, resampled by the rewards of their previews."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from rewards.checks import require_choice
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.diffusion.transition import Prediction
from srsoup_lightning.samplers.result import Measures, OnStep
from srsoup_lightning.samplers.scalarised import Evaluator, Scalarised, take
from srsoup_lightning.samplers.walk import walk
from srsoup_lightning.search.potentials import Lineages, Potential, PotentialKind, Tempering
from srsoup_lightning.search.resampling import Resampler, resample

Choice = Literal["best", "draw"]


class Population(NamedTuple):
    """Final particles: latents (P, K, C, H, W), their values (P, K), and their weights."""

    x: Tensor
    values: Tensor
    lineages: Lineages


class Sight(NamedTuple):
    """Knowledge about particles before a step.

    Attributes:
        prediction: Predictions at the particles, (P, K, C, H, W) each.
        values: Values of their previews, (P, K). None where they are not scored.
        pull: Gradients of the values, (P, K, C, H, W), that the step leans towards. None without gradients.
    """

    prediction: Prediction
    values: Tensor | None = None
    pull: Tensor | None = None

    def descended(self, ancestors: Tensor) -> Sight:
        """Return the knowledge about descendants, whose ancestors are (P, K), before their step."""
        prediction = Prediction(*(take(part, ancestors) for part in self.prediction))
        return Sight(prediction, None, None if self.pull is None else take(self.pull, ancestors))


@dataclass(frozen=True, kw_only=True)
class Particles(Scalarised):
    """Sequential Monte Carlo: K particles for each preference, scored R times, weighted and resampled.

    At a scoring, the weight of a particle is multiplied by a potential of its preview's value. The last potential makes
    the product along a lineage ``exp(lambda r(x_0))`` (Singhal et al. 2025, arXiv:2501.06848). So the weighted
    particles approach the model's distribution times this factor as K grows, whichever potential is chosen.

    Particles are resampled before the step that follows their scoring, so copies part at once. Where they are not
    resampled, their weights are kept. The last scoring is that of the final latents. Queries: ``K R`` for each
    preference and reward with weight, ``K`` less where preferences share the first scoring. Network evaluations: ``K
    T`` predictions for each preference, less the shared ones. Both are exact for one preference.

    Args:
        particles: Number K of particles, at least 2.
        scorings: Number R of scorings, at least 1, spread evenly up to the end. None scores every step but the first,
            whose previews are those of pure noise.
        inverse_temperature: lambda, at least 0, for a value of one unit.
        tempering: "constant", "increasing", "polynomial", "adaptive" or "infinite", see
            :class:`~srsoup_lightning.search.potentials.Potential`. "adaptive" keeps the effective sample size at
            `ess_threshold`, and goes with the potential "difference" alone.
        potential: "current", "difference", "max" or "sum", see there.
        resampler: "multinomial", "systematic", "ssp" or "rounding", see
            :func:`~srsoup_lightning.search.resampling.resample`.
        ess_threshold: Particles are resampled where their effective sample size is at most this share of K, in (0, 1].
            1 always resamples.
        choice: The returned particle is the "best" one, or one to "draw" by its weight.

    Raises:
        ValueError: A number is outside its range, a choice is unknown, or eta is 0.
    """

    particles: int = at_least(2, default=4)
    scorings: int | None = 5
    inverse_temperature: float = at_least(0, default=10.0)
    tempering: Tempering = "constant"
    potential: PotentialKind = "max"
    resampler: Resampler = "ssp"
    ess_threshold: float = 1.0
    choice: Choice = "best"

    needs_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("tempering", self.tempering, Tempering)
        require_choice("potential", self.potential, PotentialKind)
        require_choice("resampler", self.resampler, Resampler)
        require_choice("choice", self.choice, Choice)
        if self.tempering == "adaptive" and (self.potential != "difference" or self.ess_threshold == 1):
            raise ValueError(
                f"tempering is adaptive, potential {self.potential}, ess_threshold {self.ess_threshold}: give the "
                "potential difference and an ess_threshold below 1"
            )
        if self.scorings is not None and self.scorings < 1:
            raise ValueError(f"scorings is {self.scorings}: give at least 1, or null for every step")
        if not 0 < self.ess_threshold <= 1:
            raise ValueError(f"ess_threshold is {self.ess_threshold}: give a share in (0, 1], 1 to always resample")

    def search(self, evaluator: Evaluator, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Scalarised.search`."""
        x, values, lineages = self.population(evaluator, noise, on_step)
        if self.choice == "best":
            index = values.argmax(1)
        else:
            uniform = noise.uniform(self.particles, "choice")
            index = torch.stack([resample(row, uniform, "multinomial")[0] for row in lineages.log_weights])
        return x[torch.arange(len(x), device=x.device), index]

    def population(self, evaluator: Evaluator, noise: NoiseSource, on_step: OnStep) -> Population:
        """Return the final particles of all preferences, with their values and weights."""
        problem, members = evaluator.problem, range(self.particles)
        steps, values = problem.kernel.steps, torch.empty(0, dtype=torch.float32)
        scored = self.scored(steps)
        potential = Potential(self.potential, self.tempering, self.inverse_temperature, self.ess_threshold)
        lineages = Lineages((len(evaluator), self.particles), potential, problem.device)

        def step(x: Tensor, index: int) -> tuple[Tensor, Measures | None]:
            nonlocal values
            measures = None
            found = self.look(evaluator, x, index, index in scored)
            if index in scored:
                assert found.values is not None
                values = found.values
                lineages.weigh(values, index / steps)
                size = lineages.effective_sample_size()
                uniform = noise.uniform(self.particles, "resample", index)
                ancestors = lineages.resample(uniform, self.resampler, self.ess_threshold)
                x, found = take(x, ancestors), found.descended(ancestors)
                measures = _measures(evaluator, lineages, values, size, ancestors)
            transition = problem.kernel.transition(index, x, found.prediction)
            z = torch.stack([noise.step(index, member) for member in members])
            if found.pull is not None:
                lean = (
                    transition.sigma
                    * lineages.strength((index + 1) / steps).float()[..., None, None, None]
                    * found.pull
                )
                lineages.correct(-(lean * (z + lean / 2)).flatten(2).sum(2))
                z = z + lean
            x = transition.draw(z)
            if index == steps - 1:
                values = evaluator.judge(x, steps).values
                lineages.finish(values)
                measures = _measures(evaluator, lineages, values, lineages.effective_sample_size())
            return x, measures

        start = torch.stack([noise.start(member) for member in members])
        x = walk(problem, start.expand(len(evaluator), *start.shape), step, on_step)
        return Population(x, values, lineages)

    def look(self, evaluator: Evaluator, x: Tensor, step: int, scored: bool) -> Sight:
        """Return predictions at the particles (P, K, C, H, W) before a step, and their values where it is scored."""
        if not scored:
            return Sight(evaluator.denoise(x, step))
        values, _, prediction = evaluator.preview(x, step)
        return Sight(prediction, values)

    def scored(self, steps: int) -> set[int]:
        """Return the steps, of so many, whose previews are scored. Besides, the final latents are."""
        if self.scorings is None:
            return set(range(1, steps - 1))
        ends = (round(steps * k / self.scorings) for k in range(1, self.scorings))
        return {max(end - 1, 0) for end in ends} - {steps - 1}


def _measures(
    evaluator: Evaluator, lineages: Lineages, values: Tensor, size: Tensor, ancestors: Tensor | None = None
) -> Measures:
    found = {"best value": values.amax(1), "effective sample size": size, "surviving lineages": lineages.survivors()}
    return evaluator.measures(found, ancestors)


@dataclass(frozen=True, kw_only=True)
class FKSteering(Particles):
    """Feynman-Kac steering (Singhal et al. 2025, arXiv:2501.06848), with the settings of its authors' first script.

    Unlike the released code, weights stay in log space, are kept where particles are not resampled, and values may be
    negative. See :class:`Particles`.
    """

    resampler: Resampler = "multinomial"


@dataclass(frozen=True, kw_only=True)
class SMC(Particles):
    """Tempered sequential Monte Carlo: DAS (Kim et al. 2025, arXiv:2501.05803) without its gradients.

    See :class:`Particles`.
    """

    scorings: int | None = None
    tempering: Tempering = "increasing"
    potential: PotentialKind = "difference"
    ess_threshold: float = 0.5


@dataclass(frozen=True, kw_only=True)
class BFS(Particles):
    """Breadth-first search (Zhang et al. 2025, arXiv:2505.23614): the strongest of its authors' combinations.

    See :class:`Particles`.
    """

    tempering: Tempering = "increasing"


@dataclass(frozen=True, kw_only=True)
class VASR(Particles):
    """Accumulated weights and systematic resampling, as VASR has them (arXiv:2604.06779).

    Its greedier rule for text-to-image models, VASR-Max, is not built. See :class:`Particles`.
    """

    scorings: int | None = None
    potential: PotentialKind = "difference"
    resampler: Resampler = "systematic"
    ess_threshold: float = 0.5
