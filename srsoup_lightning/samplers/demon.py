"""Recombination of noise: the noise of a step is a sum of candidates, weighted by their rewards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rewards.checks import require_choice
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.samplers.result import Measures, OnStep
from srsoup_lightning.samplers.scalarised import Assessment, Evaluator, Previewing
from srsoup_lightning.samplers.walk import walk
from srsoup_lightning.search.gradient import project_to_shell, search_gradient
from srsoup_lightning.search.shaping import standardise

DemonKind = Literal["tanh", "boltzmann"]


@dataclass(frozen=True, kw_only=True)
class Demon(Previewing):
    """Sampling demons (Yeh et al. 2024, arXiv:2410.05760), on the sampler's own steps.

    Each step with noise draws n noises ``z_k``, completes their children and asks about them. The noise of the step is
    ``z* = sqrt(d) sum_k b_k z_k / |sum_k b_k z_k|``. The tanh demon has ``b_k = sum_m w_m tanh((r_km - mean_m) /
    (tau std_m))``, with the mean and the standard deviation of the step's n rewards. The Boltzmann demon has the
    softmax of ``v_k / (tau std)`` for the values v. With a completion of one evaluation, the tanh demon is
    :class:`~srsoup_lightning.samplers.soup.WeightedSum` with ``shaping: tanh``.

    With S steps with noise, costs for one preference are exact. Queries: ``n S`` of each reward with weight. Network
    evaluations: ``T`` predictions, and ``n min(c, T - 1 - i)`` for each step i with noise.

    Args:
        candidates: Number n of noises of a step, at least 2.
        kind: "tanh" or "boltzmann".
        temperature: tau above 0, in standard deviations of the step's rewards or values.
        completion: Number c of network evaluations, at least 1, that complete a child. 1 asks about its preview. The
            paper takes about 20, or 2 of a consistency model.

    Raises:
        ValueError: A number is outside its range, a choice is unknown, eta is 0, or the tanh demon is given another
            scalarisation than linear, units or a penalty.
    """

    candidates: int = at_least(2, default=16)
    kind: DemonKind = "tanh"
    temperature: float = 1.0
    completion: int = at_least(1, default=1)

    needs_noise: ClassVar[bool] = True
    cost_varies: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("kind", self.kind, DemonKind)
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}: give a number above 0")
        if self.kind == "boltzmann":
            return
        if self.scalarisation != "linear":
            raise ValueError(
                f"scalarisation is {self.scalarisation}: the tanh demon adds up rewards, give linear, or kind boltzmann"
            )
        if self.units or self.penalty:
            raise ValueError(
                "the tanh demon standardises each reward by itself and penalises no distance: leave out units and "
                "penalty, or give kind boltzmann"
            )

    def search(self, evaluator: Evaluator, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Scalarised.search`."""
        kernel = evaluator.problem.kernel

        def step(x: Tensor, index: int) -> tuple[Tensor, Measures | None]:
            mean, sigma = kernel.transition(index, x, evaluator.denoise(x, index))
            if sigma == 0:
                return mean, None
            z = noise.candidates(self.candidates, index)
            found = evaluator.preview(mean.unsqueeze(1) + sigma * z, index + 1, self.completion, self.preview)
            recombined = project_to_shell(search_gradient(self.weigh(evaluator, found), z), z[:1])
            best = {"best value": found.values.amax(1), "mean value": found.values.mean(1)}
            return mean + sigma * recombined, evaluator.measures(best)

        start = noise.start()
        return walk(evaluator.problem, start.expand(len(evaluator), *start.shape), step, on_step)

    def weigh(self, evaluator: Evaluator, found: Assessment) -> Tensor:
        """Return the weights b (P, n) of the noises, given the answers about their children."""
        if self.kind == "boltzmann":
            return (standardise(found.values) / self.temperature).softmax(1)
        shaped = (standardise(found.rewards.mT) / self.temperature).tanh()
        return (evaluator.value.weights.unsqueeze(1) @ shaped).squeeze(1)
