"""Epsilon-greedy search of the noise of each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.diffusion.transition import Transition
from srsoup_lightning.samplers.result import Measures, OnStep
from srsoup_lightning.samplers.scalarised import Evaluator, Previewing, take
from srsoup_lightning.samplers.walk import walk
from srsoup_lightning.search.perturbation import perturb


@dataclass(frozen=True, kw_only=True)
class EpsilonGreedy(Previewing):
    """Search of noise trajectories (Ramesh & Mardani 2025, arXiv:2506.03164): each step is a contextual bandit.

    The pivot z of a step begins as the unsteered noise. In each of K_r rounds, each of N candidates is fresh noise with
    probability epsilon. Otherwise it is ``z + rho delta``, scaled back to the length of z. Here delta is a random
    direction and rho is uniform in ``[0, strength sqrt(d)]``. The best child among those of the pivot and the
    candidates, by its preview, gives the next pivot. The network's answer for it serves the next step.

    Unlike the released code, the old pivot stays in the race, the length is kept, and children are previewed at their
    own level. With S steps with noise, costs for one preference are exact where the last step is without noise.
    Queries: ``S (1 + N K_r)`` of each reward with weight. Network evaluations: one prediction more than that. A last
    step with noise needs no predictions for its children. With unguided previews, these are single evaluations, and T
    predictions come besides.

    Args:
        candidates: Number N of candidates of a round, at least 1.
        rounds: Number K_r of rounds of a step, at least 1. The default is that of the paper. 2 to 5 rounds cost about
            as much as other methods.
        strength: Largest move in units of the length sqrt(d) of typical noise, at least 0.
        epsilon: Probability of fresh noise, in [0, 1].

    Raises:
        ValueError: A number is outside its range, or eta is 0.
    """

    candidates: int = at_least(1, default=4)
    rounds: int = at_least(1, default=20)
    strength: float = at_least(0, default=0.15)
    epsilon: float = at_least(0, default=0.4)

    needs_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epsilon > 1:
            raise ValueError(f"epsilon is {self.epsilon}: give a probability in [0, 1]")

    def search(self, evaluator: Evaluator, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Scalarised.search`."""
        kernel, prediction = evaluator.problem.kernel, None

        def step(x: Tensor, index: int) -> tuple[Tensor, Measures | None]:
            nonlocal prediction
            prediction = evaluator.denoise(x, index) if prediction is None else prediction
            mean, sigma = kernel.transition(index, x, prediction)
            transition, prediction = Transition(mean.unsqueeze(1), sigma), None
            if sigma == 0:
                return mean, None
            pivot: list[Tensor] = []  # noise, rewards, and prediction of the child, (P, 1, ...) each
            z, improved = noise.step(index).expand(len(x), 1, *x.shape[1:]), torch.zeros_like(x[:, 0, 0, 0])
            for number in range(self.rounds):
                tried = self.draw(z[:, 0], noise, index, number)
                tried = tried if pivot else torch.cat([z, tried], dim=1)
                _, rewards, found = evaluator.preview(transition.draw(tried), index + 1, kind=self.preview)
                race = [tried, rewards, *found]
                if pivot:
                    race = [torch.cat(parts, dim=1) for parts in zip(pivot, race, strict=True)]
                values = evaluator.values(race[1], race[2], index + 1)
                best = values.argmax(1, keepdim=True)
                z, *_ = pivot = [take(part, best) for part in race]
                improved = improved + (best[:, 0] > 0)
            prediction = self.serving(*(part[:, 0] for part in pivot[2:]))
            best_value = {"best value": values.amax(1), "rounds that improved": improved}
            return transition.draw(z)[:, 0], evaluator.measures(best_value)

        start = noise.start()
        return walk(evaluator.problem, start.expand(len(evaluator), *start.shape), step, on_step)

    def draw(self, pivot: Tensor, noise: NoiseSource, step: int, number: int) -> Tensor:
        """Return the candidates (P, N, C, H, W) around pivots (P, C, H, W), in a round of a step."""
        drawn = noise.normal(self.candidates, "candidates", step, "round", number)
        radius = noise.uniform(self.candidates, "radius", step, number) * self.strength * pivot[0].numel() ** 0.5
        fresh = noise.uniform(self.candidates, "fresh", step, number) < self.epsilon
        return torch.where(fresh.view(-1, 1, 1, 1), drawn, perturb(pivot, drawn, radius))
