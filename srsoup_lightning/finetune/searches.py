"""Searches that an adapter is distilled from: run in each round, or kept by runs of ``srsoup predict``."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import Process
from srsoup_lightning.diffusion.transition import Kernel
from srsoup_lightning.finetune.conditioning import drawn_preference
from srsoup_lightning.finetune.rollout import Rollout
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.result import Moment, Observation
from srsoup_lightning.samplers.soup import SRSoup
from srsoup_lightning.samplers.walk import walk
from srsoup_lightning.search.pooling import Pooled
from srsoup_lightning.search.scalarise import Value

SEEDS = 2**20  # seeds of the soups of a group, for each seed of a group


class SearchedSteps(NamedTuple):
    """Searched steps of P trajectories, K of them each.

    Attributes:
        states: Latents before each step, (P, K, C, H, W).
        means: Means of the steps, (P, K, C, H, W).
        gradients: Search gradients of the M rewards, (P, K, M, C, H, W); 0 where nobody was asked.
        weights: Preference of each trajectory, (P, M).
    """

    states: Tensor
    means: Tensor
    gradients: Tensor
    weights: Tensor

    @classmethod
    def joined(cls, parts: Sequence[SearchedSteps]) -> SearchedSteps:
        """Join the trajectories of several soups."""
        return cls(*(torch.cat(each) for each in zip(*parts, strict=True)))


class Searches(abc.ABC):
    """Source of searched steps."""

    on_base: ClassVar[bool] = False
    """Whether the searches ran on the base model, whatever the adapter has learned since."""

    @abc.abstractmethod
    def check(self, process: Process, problem: Problem) -> None:
        """Check that the source fits the model and the process.

        Raises:
            ValueError: It does not.
        """

    @abc.abstractmethod
    def steps(self, process: Process, kernel: Kernel) -> tuple[int, ...]:
        """Return the steps that are searched."""

    def prompts(self, given: Sequence[str], rewards: Sequence[str], value: Value) -> Sequence[str]:
        """See :meth:`Objective.prompts`; `given`, unless the source has prompts of its own."""
        return given

    @abc.abstractmethod
    def run(self, process: Process, rollout: Rollout) -> SearchedSteps:
        """Return the searched steps of a group, one trajectory for each member."""


@dataclass(frozen=True)
class OnlineSearch(Searches):
    """Searches on the tuned model, in every round.

    Args:
        search: Method. Its steps, guidance, eta and batch are those of the objective. It may not start from a pool.

    Raises:
        ValueError: The method starts from a pool.
    """

    search: SRSoup = field(default_factory=lambda: SRSoup(candidates=8, sharing=Pooled()))

    def __post_init__(self) -> None:
        if self.search.selection is not None:
            raise ValueError(
                "the search starts from the best of a pool, and steps before it have no gradients: leave selection out"
            )

    def check(self, process: Process, problem: Problem) -> None:
        """See :meth:`Searches.check`."""
        if not self.steps(process, problem.kernel):
            raise ValueError("no step draws noise, so none is searched: give eta above 0")

    def steps(self, process: Process, kernel: Kernel) -> tuple[int, ...]:
        """See :meth:`Searches.steps`; those that draw noise and have candidates."""
        candidates = self._method(process).settings(()).candidates
        return tuple(step for step in range(kernel.steps) if kernel.sigma(step) > 0 and candidates[step])

    def run(self, process: Process, rollout: Rollout) -> SearchedSteps:
        """See :meth:`Searches.run`."""
        method, noise, members = self._method(process), rollout.noise, rollout.members
        if rollout.conditioning is not None:
            return searched(method, rollout.problem, soup_of(rollout), noise)
        sources = [replace(noise, seed=noise.seed * SEEDS + member) for member in range(members)]
        weights = rollout.value.weights.unsqueeze(0)
        return SearchedSteps.joined([searched(method, rollout.problem, weights, source) for source in sources])

    def _method(self, process: Process) -> SRSoup:
        return replace(
            self.search,
            num_inference_steps=process.num_inference_steps,
            guidance_scale=process.guidance_scale,
            eta=process.eta,
            max_batch=process.max_batch,
        )


def soup_of(rollout: Rollout) -> Tensor:
    """Return preferences (P, M) of a soup, one for each member: each weighted reward alone, then others, drawn."""
    weighted, count = rollout.weighted, rollout.members
    corners = torch.eye(len(weighted), dtype=torch.float32)[weighted]
    inside = [drawn_preference(weighted, rollout.noise, None, "soup", member) for member in range(count - len(corners))]
    return torch.stack([*corners, *inside])[:count]


def searched(method: SRSoup, problem: Problem, weights: Tensor, noise: NoiseSource) -> SearchedSteps:
    """Run a soup and return its searched steps.

    Args:
        method: Method.
        problem: Denoising process and rewards.
        weights: Preferences (P, M) of its trajectories.
        noise: Source of all random numbers.
    """
    states, means, gradients = list[Tensor](), list[Tensor](), list[Tensor]()

    def keep(moment: Moment) -> None:
        if isinstance(found := moment.observation, Observation):
            states.append(found.latents)
            means.append(found.state.means)
            gradients.append(found.gradients())

    trajectories = method.trajectories(problem, weights, noise)
    first, x = method.start(trajectories, keep)
    walk(problem, x, trajectories.step, keep, first)
    return SearchedSteps(torch.stack(states, 1), torch.stack(means, 1), torch.stack(gradients, 1), weights.to(x.device))
