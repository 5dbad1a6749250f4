"""Dynamic beam search: beams of one picture, each with children, fewer and wider towards the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from rewards.checks import require_choice
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.diffusion.transition import Transition
from srsoup_lightning.samplers.result import Measures, OnStep
from srsoup_lightning.samplers.scalarised import Evaluator, Previewing, take
from srsoup_lightning.samplers.walk import walk
from srsoup_lightning.search.beams import ROUNDING, BeamSchedule, SearchSchedule, beams_left, searched_steps


class Stage(NamedTuple):
    """Plan of a step: beams before it, children of each of them, and beams after it."""

    beams: int
    children: int
    kept: int

    @property
    def scored(self) -> bool:
        """Whether there is anything to choose between."""
        return self.children > 1 or self.kept < self.beams


@dataclass(frozen=True, kw_only=True)
class DSearch(Previewing):
    """Dynamic search with a shrinking beam (Li et al. 2025, arXiv:2503.02039).

    O beams of one prompt and one preference start from latents of their own. At each step the best child of every beam
    is found, as by :class:`~srsoup_lightning.samplers.value_decoding.SVDD`. The beams with the best ones are kept. A
    searched step has more children for each beam the fewer beams there are. The steps that are searched are fixed
    instead of drawn, so that a budget is the same every time. The last step leaves one beam.

    With the stages (b, n, b') of :meth:`stages`, costs for one preference are exact. Queries: ``b n`` of each reward
    with weight in each stage that is scored. Network evaluations: O predictions, and for each step i < T - 1
    ``b n min(1 + lookahead, T - 1 - i)`` where the stage is scored, and b' where it isn't. With unguided previews these
    are single evaluations, and each step makes a prediction for each of its beams besides.

    Args:
        beams: Number O of beams at the start, at least 1.
        children: Number n of children of each beam in a step that isn't searched, at least 1.
        width: w, at least 1. A beam has ``w n O / b`` children in a searched step with b beams, rounded down.
        beam_schedule: "exponential", "linear", "quadratic", "sigmoid" or "constant", see
            :func:`~srsoup_lightning.search.beams.beams_left`.
        search_schedule: "exponential", "linear" or "all", see
            :func:`~srsoup_lightning.search.beams.searched_steps`.
        lookahead: Number K of network evaluations, at least 0, that complete a child further before it is scored. 0
            scores its preview.

    Raises:
        ValueError: A number is outside its range, a schedule is unknown, or eta is 0.
    """

    beams: int = at_least(1, default=4)
    children: int = at_least(1, default=4)
    width: float = at_least(1, default=1.25)
    beam_schedule: BeamSchedule = "exponential"
    search_schedule: SearchSchedule = "exponential"
    lookahead: int = at_least(0, default=0)

    needs_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("beam_schedule", self.beam_schedule, BeamSchedule)
        require_choice("search_schedule", self.search_schedule, SearchSchedule)

    def stages(self, sigmas: Sequence[float]) -> list[Stage]:
        """Return the plan of each step, given its standard deviation. Without noise, a beam has one child."""
        steps, beams, stages = len(sigmas), self.beams, []
        for step, searched in enumerate(searched_steps(self.search_schedule, steps)):
            wide = floor(self.width * self.children * self.beams / beams + ROUNDING)
            children = (wide if searched else self.children) if sigmas[step] > 0 else 1
            last = step == steps - 1
            kept = 1 if last else beams_left(self.beam_schedule, self.beams, step / (steps - 1))
            stages.append(Stage(beams, children, kept))
            beams = kept
        return stages

    def search(self, evaluator: Evaluator, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Scalarised.search`."""
        problem, kernel, prediction = evaluator.problem, evaluator.problem.kernel, None
        stages = self.stages([kernel.sigma(step) for step in range(kernel.steps)])

        def step(x: Tensor, index: int) -> tuple[Tensor, Measures | None]:
            nonlocal prediction
            stage = stages[index]
            prediction = evaluator.denoise(x, index) if prediction is None else prediction
            mean, sigma = kernel.transition(index, x, prediction)
            z = noise.candidates(stage.beams * stage.children, index).unflatten(0, (stage.beams, stage.children))
            children, prediction = Transition(mean.unsqueeze(2), sigma).draw(z).flatten(1, 2), None
            if not stage.scored:
                return children, None
            values, _, found = evaluator.preview(children, index + 1, 1 + self.lookahead, self.preview)
            kept = _best_beams(values, stage)
            x, *parts = (take(part, kept) for part in (children, *found))
            prediction = self.serving(*parts)
            best = {"best value": values.amax(1), "mean value": values.mean(1)}
            return x, evaluator.measures(best, kept // stage.children)

        starts = torch.stack([noise.start(beam) for beam in range(self.beams)])
        return walk(problem, starts.expand(len(evaluator), *starts.shape), step, on_step)[:, 0]


def _best_beams(values: Tensor, stage: Stage) -> Tensor:
    """Indices (P, b') of the best children of the best beams among all children, given their values (P, b n).

    They keep the order of the beams. So preferences that keep the same beams go on drawing the same children.
    """
    best, child = values.unflatten(1, (stage.beams, stage.children)).max(2)
    beams = best.argsort(stable=True, dim=1, descending=True)[:, : stage.kept].sort(1).values
    return beams * stage.children + child.gather(1, beams)
