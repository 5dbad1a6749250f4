"""Base class of all objectives."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from srsoup_lightning.diffusion.process import Process, at_least
from srsoup_lightning.diffusion.transition import Kernel
from srsoup_lightning.finetune.policy import Policy
from srsoup_lightning.finetune.rollout import Memory, Rollout, Scores
from srsoup_lightning.problem import Problem
from srsoup_lightning.search.scalarise import Value


class Loss(NamedTuple):
    """Loss of a part of a group.

    Attributes:
        value: Mean over the part, a scalar with the graph of autograd.
        logs: Quantities to log, by name, detached scalars.
    """

    value: Tensor
    logs: dict[str, Tensor]


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

    needs_conditioning: ClassVar[bool] = False
    """Whether the objective needs inputs of the adapter, see :class:`Conditioning`."""

    draws_inputs: ClassVar[bool] = True
    """Whether each group trains the inputs that :class:`Conditioning` draws for it, and not those of its data."""

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
