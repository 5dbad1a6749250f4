"""Searches that runs have kept, as data of a distillation: it asks no rewards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isclose
from typing import ClassVar

import torch

from srsoup_lightning.diffusion.process import Process
from srsoup_lightning.diffusion.transition import Kernel
from srsoup_lightning.finetune.rollout import Rollout
from srsoup_lightning.finetune.searches import SearchedSteps, Searches
from srsoup_lightning.problem import Problem
from srsoup_lightning.runs.searches import KeptSearch, read_searches
from srsoup_lightning.search.scalarise import Value


@dataclass(frozen=True)
class KeptSearches(Searches):
    """Searches on the base model, which runs have kept by ``SearchKeeper``. They bring their own prompts.

    A group has as many trajectories of its prompt as `group_size` says, drawn at random. If there are fewer, they come
    again. The runs must have the steps, the guidance and the eta of the objective, and no LoRAs.

    Args:
        runs: Run directories.

    Raises:
        ValueError: There are no runs.
    """

    runs: tuple[str, ...]

    on_base: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.runs or isinstance(self.runs, str):
            raise ValueError(f"runs is {self.runs!r}: give a list of run directories")

    def check(self, process: Process, problem: Problem) -> None:
        """See :meth:`Searches.check`."""
        for search in self._searches:
            for name, value in search.process.items():
                if getattr(process, name) != value:
                    raise ValueError(
                        f"the searches of {', '.join(self.runs)} have {name} {value:g}, and the objective "
                        f"{getattr(process, name):g}: give the objective theirs"
                    )
            if search.states.shape[2:] != problem.shape:
                raise ValueError(
                    f"the searches of {search.prompt!r} have latents of shape {tuple(search.states.shape[2:])}, and "
                    f"the model draws {tuple(problem.shape)}: give runs of this model"
                )
            steps = zip(search.steps, search.sigmas, strict=True)
            if search.steps != self._searches[0].steps or not all(
                isclose(problem.kernel.sigma(step), sigma, rel_tol=1e-4) for step, sigma in steps
            ):
                raise ValueError(f"the searches of {search.prompt!r} have another schedule: give runs of this model")

    def steps(self, process: Process, kernel: Kernel) -> tuple[int, ...]:
        """See :meth:`Searches.steps`."""
        return self._searches[0].steps

    def prompts(self, given: Sequence[str], rewards: Sequence[str], value: Value) -> list[str]:
        """See :meth:`Searches.prompts`; those of the runs."""
        weighed = {name for name, weight in zip(rewards, value.weights.tolist(), strict=True) if weight > 0}
        for search in self._searches:
            if missing := sorted(weighed - set(search.rewards)):
                raise ValueError(f"the searches of {', '.join(self.runs)} have no gradients of {missing}: give others")
        return list(dict.fromkeys(search.prompt for search in self._searches))

    def run(self, process: Process, rollout: Rollout) -> SearchedSteps:
        """See :meth:`Searches.run`."""
        names = rollout.problem.rewards
        parts = [_in_order(search, names) for search in self._by_prompt[rollout.noise.prompt]]
        everything = SearchedSteps.joined(parts)
        order = rollout.noise.uniform(len(everything.weights), "kept searches").cpu().argsort()
        drawn = order[torch.arange(rollout.members) % len(order)]
        return SearchedSteps(*(each[drawn] for each in everything))

    @cached_property
    def _searches(self) -> list[KeptSearch]:
        return [search for root in self.runs for search in read_searches(root)]

    @cached_property
    def _by_prompt(self) -> dict[str, list[KeptSearch]]:
        found = defaultdict(list)
        for search in self._searches:
            found[search.prompt].append(search)
        return found


def _in_order(search: KeptSearch, names: Sequence[str]) -> SearchedSteps:
    """SearchedSteps steps with the rewards in the order of names, and 0 for a reward that the search does not have."""
    gradients = search.gradients.new_zeros(*search.gradients.shape[:2], len(names), *search.gradients.shape[3:])
    weights = search.weights.new_zeros(len(search.weights), len(names))
    for column, name in enumerate(names):
        if name in search.rewards:
            kept = search.rewards.index(name)
            gradients[:, :, column], weights[:, column] = search.gradients[:, :, kept], search.weights[:, kept]
    return SearchedSteps(search.states, search.means, gradients, weights)
