"""Search over paths: partly denoised latents are noised again and denoised further, and the best are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.samplers.result import Measures, OnStep, shifted
from srsoup_lightning.samplers.scalarised import Evaluator, Previewing, take
from srsoup_lightning.samplers.walk import draw, walk


class Round(NamedTuple):
    """Levels of a round: latents of level `here` are noised back to `back` and denoised to `ahead`."""

    here: int
    back: int
    ahead: int


@dataclass(frozen=True, kw_only=True)
class SearchOverPaths(Previewing):
    """Search over paths (Ma et al. 2025, arXiv:2501.09732).

    N random starts, shared by all preferences, are denoised to a level. In each round every path is noised back with M'
    fresh noises and denoised further than before. Of the N M' results, a preference keeps the N whose previews have the
    highest values. The last round ends with clean latents, and the best of them is returned. Preferences with the same
    paths share their rounds, so the first round is common to all.

    With T steps, the first level is ``s = round(start T)``. A round goes ``b = round(back T)`` levels back, to level 0
    at most, and ``f = round(ahead T)`` levels forward, to level T at most. Here s and b are at least 1, and f is at
    least b + 1. For one preference and R rounds that make f_1 ... f_R steps, ``N s + N M' (f_1 + ... + f_R + R - 1)``
    predictions are made, and each reward with weight is asked ``N M' R`` queries. A further preference adds at most
    ``N M' (f_2 + ... + f_R + R - 1)`` predictions and ``N M' (R - 1)`` queries.

    The paper's settings, in the time of a flow model, are those of start 0.89, back 0.78 and ahead 0.81. Each of its
    rounds renews most of the picture, at the cost of most of a trajectory. The defaults here have shorter rounds.

    Args:
        paths: Number N of paths, at least 1.
        noises: Number M' of fresh noises for a path, at least 2.
        start: Share of the steps before the first round, in (0, 1).
        back: Share of the steps that a round goes back, above 0 and at most `start`.
        ahead: Share of the steps that a round makes, above `back` and at most 1.
        eta: See :class:`~srsoup_lightning.diffusion.process.Process`. Any will do.

    Raises:
        ValueError: A number is outside its range.
    """

    eta: float = 0.0
    paths: int = at_least(1, default=2)
    noises: int = at_least(2, default=4)
    start: float = 0.4
    back: float = 0.2
    ahead: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.start < 1:
            raise ValueError(f"start is {self.start}: give a share in (0, 1)")
        if not 0 < self.back <= self.start:
            raise ValueError(f"back is {self.back}: give a share above 0 and at most start, {self.start}")
        if not self.back < self.ahead <= 1:
            raise ValueError(f"ahead is {self.ahead}: give a share above back, {self.back}, and at most 1")

    def rounds(self, steps: int) -> list[Round]:
        """Return the levels of all rounds for so many steps."""
        back = max(round(self.back * steps), 1)
        ahead = max(round(self.ahead * steps), back + 1)
        rounds, here = list[Round](), max(round(self.start * steps), 1)
        while not rounds or here < steps:
            to = max(here - back, 0)
            rounds.append(Round(here, to, min(to + ahead, steps)))
            here = rounds[-1].ahead
        return rounds

    def search(self, evaluator: Evaluator, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Scalarised.search`."""
        problem = evaluator.problem
        rounds, members = self.rounds(problem.kernel.steps), range(self.paths)
        done = rounds[0].here
        total = done + sum(each.ahead - each.back for each in rounds)

        def first(x: Tensor, index: int) -> tuple[Tensor, None]:
            return draw(problem, x, index, problem.denoise(x, index), noise, members), None

        starts = torch.stack([noise.start(member) for member in members])
        x = walk(problem, starts, first, shifted(on_step, 0, total), last=done)
        x = x.expand(len(evaluator), *x.shape)
        for number, levels in enumerate(rounds):
            # Moments of a walk count from its first level.
            report = shifted(on_step, done - levels.back, total)
            x = self._round(evaluator, x, number, levels, noise, report)
            done += levels.ahead - levels.back
        return x[:, 0]

    def _round(
        self, evaluator: Evaluator, x: Tensor, number: int, levels: Round, noise: NoiseSource, on_step: OnStep
    ) -> Tensor:
        """Return the paths (P, N, C, H, W) that are kept, or the final latents (P, 1, C, H, W)."""
        problem, count = evaluator.problem, self.paths * self.noises
        kernel, shape = problem.kernel, problem.shape
        kept = 1 if levels.ahead == kernel.steps else self.paths
        fresh = noise.normal(count, "renoise", number).view(self.paths, self.noises, *shape)
        x = kernel.renoise(levels.here, x.unsqueeze(2), levels.back, fresh).flatten(1, 2)

        def step(x: Tensor, index: int) -> tuple[Tensor, Measures | None]:
            transition = kernel.transition(index, x, evaluator.denoise(x, index))
            x = transition.draw(noise.normal(count, "path", number, index)) if transition.sigma else transition.mean
            if index + 1 < levels.ahead:
                return x, None
            values = evaluator.preview(x, levels.ahead, kind=self.preview).values
            # The order of the paths must not matter: preferences with the same ones share.
            best = values.topk(kept).indices.sort(1).values
            return take(x, best), evaluator.measures({"best value": values.amax(1), "mean value": values.mean(1)})

        return walk(problem, x, step, on_step, levels.back, levels.ahead)
