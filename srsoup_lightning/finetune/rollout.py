"""Samples of a round, and the state that an objective keeps between rounds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.transition import Transition
from srsoup_lightning.finetune.advantages import Compared
from srsoup_lightning.finetune.conditioning import Conditioning
from srsoup_lightning.problem import Problem
from srsoup_lightning.search.scalarise import Value

Memory = dict[str, Any]
"""State that an objective keeps from round to round: numbers, strings and tensors in lists and dicts."""


class Scores(NamedTuple):
    """Rewards of a group, as all processes know them.

    Attributes:
        prompt: Prompt of the group.
        rewards: Rewards (S, M) of its members, on the CPU.
        weights: Weights (M,) of the preference that it was sampled for, on the CPU.
    """

    prompt: str
    rewards: Tensor
    weights: Tensor

    def values(self, value: Value) -> Tensor:
        """Return the values (S,) of the rewards to the group's preference, in the units of another value."""
        return replace(value, weights=self.weights)(self.rewards)


class Step(NamedTuple):
    """One denoising step of all S members of a group.

    Attributes:
        number: Number of the step, from 0.
        state: Latents (S, C, H, W) before the step.
        transition: Gaussian of the latents after the step.
        following: Latents (S, C, H, W) after the step.
    """

    number: int
    state: Tensor
    transition: Transition
    following: Tensor


@dataclass
class Rollout:
    """Samples of one prompt: a group of S members.

    Attributes:
        problem: Denoising process of the prompt and rewards.
        noise: Source of all random numbers of the group.
        members: Number S of samples.
        index: Index of the group among those of the round, over all processes.
        round: Number of the round, from 0.
        value: Value of rewards to the preference that the model is tuned for.
        steps: Denoising steps that are trained.
        tensors: Tensors (S, ...) by name, on the CPU.
        rewards: Rewards (S, M) of the samples, on the CPU. Empty if the objective does not ask before the loss.
        compared: Rewards of the samples, compared with others, on the CPU. None before :meth:`Objective.prepare`.
        memory: State of the objective, to be read only.
        problem_of: Returns the denoising process of another prompt.
        conditioning: Draws preferences, where they are inputs of the adapter.
        weighted: Whether each reward may have weight, bool (M,), on the CPU.
    """

    problem: Problem
    noise: NoiseSource
    members: int
    index: int
    round: int
    value: Value
    steps: tuple[int, ...] = ()
    tensors: dict[str, Tensor] = field(default_factory=dict)
    rewards: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.float32))
    compared: Compared | None = None
    memory: Memory = field(default_factory=Memory)
    problem_of: Callable[[str], Problem] | None = None
    conditioning: Conditioning | None = None
    weighted: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))

    @property
    def scores(self) -> Scores:
        """Its rewards, for all processes."""
        return Scores(self.noise.prompt, self.rewards, self.value.weights.cpu())

    def take(self, name: str, rows: slice, index: int) -> Tensor:
        """Return some rows of a tensor (S, K, ...) at one index of its second axis, on the problem's device."""
        return self.tensors[name][rows, index].to(self.problem.device)

    def normal(self, rows: slice, *purpose: object) -> Tensor:
        """Return standard normal noise for some members, each with its own.

        It does not depend on the rows that are asked for together.
        """
        return self.noise.normal(self.members, *purpose)[rows]

    def redrawn(self, rows: slice, *purpose: object) -> Tensor | None:
        """Draw a preference for each of some members anew, (B, M), on the CPU. None where it is no input of the model.

        A preference does not depend on the rows that are asked for together.
        """
        if self.conditioning is None:
            return None
        numbers = range(self.members)[rows]
        return torch.stack(
            [self.conditioning.draw(self.weighted, self.noise, "hindsight", *purpose, row) for row in numbers]
        )

    def trajectory(self, noisy: Collection[int] | None = None, *, one_start: bool = False) -> Iterator[Step]:
        """Sample the group by the model, step by step, from noise to clean latents.

        Args:
            noisy: Steps that draw noise. None is all steps that the schedule lets.
            one_start: All members start from the noise of the first one.
        """
        problem, kernel, everyone = self.problem, self.problem.kernel, slice(None)
        plain = kernel.deterministic()
        x = self.normal(everyone, "rollout", "start")
        if one_start:
            x = x[:1].expand_as(x)
        for number in range(kernel.steps):
            chosen = kernel if noisy is None or number in noisy else plain
            transition = chosen.transition(number, x, problem.denoise(x, number))
            state, x = x, transition.mean
            if transition.sigma:
                x = transition.draw(self.normal(everyone, "rollout", "step", number))
            yield Step(number, state, transition, x)

    def sample(self) -> Tensor:
        """Return samples (S, C, H, W) of the model, clean latents, by the steps of the problem's kernel."""
        for step in self.trajectory():  # noqa: B007 - the last one is used
            pass
        return step.following
