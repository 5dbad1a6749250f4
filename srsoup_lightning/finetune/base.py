"""Base class of all objectives, and the data of a round."""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import Process, at_least
from srsoup_lightning.diffusion.transition import Kernel, Transition
from srsoup_lightning.finetune.policy import Policy
from srsoup_lightning.problem import Problem
from srsoup_lightning.search.scalarise import Value

Memory = dict[str, Any]
"""State that an objective keeps from round to round: numbers, strings and tensors in lists and dicts."""


class Loss(NamedTuple):
    """Loss of a part of a group.

    Attributes:
        value: Mean over the part, a scalar with the graph of autograd.
        logs: Quantities to log, by name, detached scalars.
    """

    value: Tensor
    logs: dict[str, Tensor]


class Scores(NamedTuple):
    """Rewards of a group, as all processes know them.

    Attributes:
        prompt: Prompt of the group.
        rewards: Rewards (S, M) of its members, on the CPU.
    """

    prompt: str
    rewards: Tensor


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
        advantages: Advantages (S,) of the samples, on the CPU. Empty before :meth:`Objective.prepare`.
        memory: State of the objective, to be read only.
        problem_of: Returns the denoising process of another prompt.
    """

    problem: Problem
    noise: NoiseSource
    members: int
    index: int
    round: int
    value: Value
    steps: tuple[int, ...] = ()
    tensors: dict[str, Tensor] = field(default_factory=dict)
    rewards: Tensor = field(default_factory=lambda: torch.empty(0))
    advantages: Tensor = field(default_factory=lambda: torch.empty(0))
    memory: Memory = field(default_factory=Memory)
    problem_of: Callable[[str], Problem] | None = None

    def take(self, name: str, rows: slice, index: int) -> Tensor:
        """Return some rows of a tensor (S, K, ...) at one index of its second axis, on the problem's device."""
        return self.tensors[name][rows, index].to(self.problem.device)

    def normal(self, rows: slice, *purpose: object) -> Tensor:
        """Return standard normal noise for some members, each with its own.

        It does not depend on the rows that are asked for together.
        """
        return self.noise.normal(self.members, *purpose)[rows]

    def trajectory(self, noisy: Collection[int] | None = None) -> Iterator[Step]:
        """Sample the group by the model, step by step, from noise to clean latents.

        Args:
            noisy: Steps that draw noise. None is all steps that the schedule lets.
        """
        problem, kernel, everyone = self.problem, self.problem.kernel, slice(None)
        plain = kernel.deterministic()
        x = self.normal(everyone, "rollout", "start")
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


@dataclass(frozen=True, kw_only=True)
class Objective(Process, abc.ABC):
    """Aim of a fine-tuning: it collects samples of the model, and says how much a change of the model loses on them.

    A round samples the groups and then takes optimizer steps on them. A batch of the Trainer is a part of a group at
    one denoising step. So the graph of a few latents at one step is in memory, whatever the size of the group.

    Args:
        groups: Number of groups in a round, over all processes. Each has one prompt.
        group_size: Number of samples in a group.
        train_batch: Largest number of latents whose graph is in memory at once.

    Raises:
        ValueError: A number is outside its range.
    """

    groups: int = at_least(1, default=8)
    group_size: int = at_least(1, default=8)
    train_batch: int = at_least(1, default=8)

    needs_gradient: ClassVar[bool] = False
    """Whether the objective needs gradients of the rewards."""

    asks_ahead: ClassVar[bool] = True
    """Whether rewards of samples may be asked before the first loss of a round. If not, nothing is prepared."""

    @property
    def items(self) -> int:
        """Number of items of a group, whose losses are averaged: its members, or comparisons of them."""
        return self.group_size

    @property
    def latents_of_item(self) -> int:
        """Number of latents in the graph of an item."""
        return 1

    @property
    def parts(self) -> int:
        """Number of parts of a group, each with at most `train_batch` latents in its graph."""
        return -(-self.items // (self.train_batch // self.latents_of_item))

    def rows(self, part: int) -> slice:
        """Items of a part of a group. Parts differ by one item at most."""
        bounds = [round(number * self.items / self.parts) for number in (part, part + 1)]
        return slice(*bounds)

    def prompts(self, given: Sequence[str], rewards: Sequence[str], value: Value) -> Sequence[str]:
        """Return the prompts that the groups are drawn from; `given`, unless an objective has prompts of its own.

        Args:
            given: Prompts of the data module.
            rewards: Names of the rewards.
            value: Value of rewards to the preference that the model is tuned for.
        """
        return given

    def check(self, problem: Problem) -> None:
        """Check that the model and the objective fit together, before anything is sampled.

        Raises:
            ValueError: They don't.
        """

    @abc.abstractmethod
    def passes(self, kernel: Kernel) -> int:
        """Return the number of losses on each part of a group, such as the number of trained steps."""

    def sampling(self, policy: Policy, memory: Memory) -> AbstractContextManager[None]:
        """Context in which the groups of a round are sampled. Other weights than the trained ones may act there.

        Args:
            policy: Model that is tuned.
            memory: State of the objective.
        """
        return nullcontext()

    @abc.abstractmethod
    def collect(self, rollout: Rollout) -> Tensor | None:
        """Sample a group, without gradients. What the losses need later is kept in ``rollout.tensors``.

        Returns:
            Clean latents (S, C, H, W) to ask the rewards about. None if the objective asks nothing now.
        """

    def prepare(self, own: Sequence[Rollout], everyone: Sequence[Scores], memory: Memory) -> dict[str, float]:
        """Use the rewards of a round, when all of them are known.

        Args:
            own: Groups of this process.
            everyone: Rewards of the groups of all processes, in one order for all of them.
            memory: State of the objective. It must change in the same way in every process.

        Returns:
            Quantities to log, by name.
        """
        return {}

    @abc.abstractmethod
    def loss(self, rollout: Rollout, part: int, index: int, policy: Policy) -> Loss:
        """Return the loss on a part of a group, with the graph of the trained weights.

        Args:
            rollout: Group.
            part: Part of its members.
            index: Number of the pass, below :meth:`passes`.
            policy: Model that is tuned.
        """

    def end_round(self, policy: Policy, memory: Memory, rounds: int) -> None:
        """Update the state after the last optimizer step of a round.

        Args:
            policy: Model that is tuned.
            memory: State of the objective.
            rounds: Number of rounds that are done.
        """
