"""One process's part of a fine-tuning: it collects the groups of a round and gives the Trainer their losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from srsoup_lightning.costs.ledger import Ledger, added
from srsoup_lightning.costs.limits import LimitError
from srsoup_lightning.costs.meter import Meter
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.finetune.base import Loss, Objective
from srsoup_lightning.finetune.logs import RoundLogs, merged
from srsoup_lightning.finetune.policy import Policy
from srsoup_lightning.finetune.processes import ALONE, Processes, interleaved
from srsoup_lightning.finetune.rollout import Memory, Rollout
from srsoup_lightning.finetune.training import Training
from srsoup_lightning.problem import Problem
from srsoup_lightning.search.scalarise import Value

SEEDS = 2**32  # seeds of groups for each seed of a training


class Finetuning:
    """Rounds of an objective.

    Args:
        training: Options.
        policy: Model that is tuned.
        problem_of: Returns the denoising process of a prompt, whose costs a meter counts.
        weights: Weights (M,) of the preference. With a conditioning, groups draw theirs between the rewards that have
            weight here.
        processes: Processes that share the groups.
        limited: Returns a context that keeps a round's costs within the limits. None sets no limits.

    Attributes:
        rounds: Number of rounds that are done.
        costs: Costs of all rounds up to now, of all processes.
        memory: State of the objective.

    Raises:
        ValueError: The groups can't be shared evenly, or the model and the objective do not fit together.
    """

    def __init__(
        self,
        training: Training,
        policy: Policy,
        problem_of: Callable[[str, Meter], Problem],
        weights: Tensor,
        processes: Processes = ALONE,
        limited: Callable[[Meter], AbstractContextManager[None]] | None = None,
    ) -> None:
        self.training, self.policy, self.problem_of, self.processes = training, policy, problem_of, processes
        self.value, self.limited, self._limits = Value(weights), limited, ExitStack()
        self.rounds, self.memory, self.rollouts = 0, Memory(), list[Rollout]()
        if self.objective.groups % processes.world_size:
            raise ValueError(
                f"groups is {self.objective.groups}, and {processes.world_size} processes can't share them evenly: "
                "give a multiple"
            )
        self.meter, self._logs = Meter(Ledger()), RoundLogs({})
        problem = problem_of("", self.meter)
        self.costs = Ledger.of(problem.rewards, str(problem.device))
        self.objective.check(problem)
        self._passes = self.objective.passes(problem.kernel)

    @property
    def objective(self) -> Objective:
        """The objective."""
        return self.training.objective

    @property
    def batches(self) -> int:
        """Number of the Trainer's batches in a round of one process: each is a pass over a part of a group."""
        return len(self._own) * self._batches_of_group

    @property
    def _batches_of_group(self) -> int:
        return self.objective.parts * self._passes

    @property
    def _own(self) -> range:  # indices of the groups of this process
        return range(self.processes.rank, self.objective.groups, self.processes.world_size)

    def order(self) -> list[int]:
        """Return the order of the round's batches: group by group, and the batches of a group shuffled."""
        source = NoiseSource("order of batches", self._seed(self.rounds, self.processes.rank), ())
        each = self._batches_of_group
        return [
            group * each + int(batch)
            for group in range(len(self._own))
            for batch in source.uniform(each, "group", group).argsort()
        ]

    def collect(self, prompts: Sequence[str]) -> dict[str, float]:
        """Sample the groups of a round and ask the rewards about them.

        The rewards of a group on the CPU are asked while the network samples the next one.

        Args:
            prompts: Prompts of the training.

        Returns:
            Quantities of the samples, by name. :meth:`end_round` returns them too.

        Raises:
            RewardError: A reward failed.
            LimitError: A budget or a limit leaves no room. Every process raises it, if one of them does.
        """
        self.meter = Meter(Ledger.of(self.costs.queries, self.costs.device))
        with self.meter.timed():
            self._sample_groups(prompts)
            scores = [rollout.scores for rollout in self.rollouts]
            everyone = interleaved(self.processes.gather(scores))
            self._logs = RoundLogs(self.objective.prepare(self.rollouts, everyone, self.memory))
        if any(len(group.rewards) for group in everyone):
            means = torch.cat([group.rewards for group in everyone]).mean(0)
            asked = zip(self.costs.queries, means.tolist(), self.value.weights.tolist(), strict=True)
            self._logs.known |= {f"reward/{name}": mean for name, mean, weight in asked if weight > 0}
        return self._logs.known

    def loss(self, batch: int) -> Loss:
        """Return the loss of a batch, below :attr:`batches`. Their mean over a round is that of all samples."""
        group, rest = divmod(batch, self._batches_of_group)
        part, index = divmod(rest, self._passes)
        rollout = self.rollouts[group]
        loss = self.objective.loss(rollout, part, index, self.policy)
        rows = self.objective.rows(part)
        share = (rows.stop - rows.start) * self.objective.parts / self.objective.items
        loss = loss._replace(value=loss.value * share)
        self._logs.add({"loss": loss.value.detach(), **loss.logs})
        return loss

    def spent(self) -> Ledger:
        """Return the costs of all processes up to now, with those of the round under way."""
        return added([self.costs, *self.processes.gather(self.meter.ledger)])

    def end_round(self) -> dict[str, float]:
        """Add up the costs of the round, and let the objective update its state.

        Returns:
            Quantities to log, by name: means over the round and over all processes.
        """
        self.rounds += 1
        self.objective.end_round(self.policy, self.memory, self.rounds)
        self._limits.close()
        self.costs, self.rollouts = self.spent(), []
        return self._logs.known | merged(self.processes.gather(self._logs.totals()))

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two rounds: numbers, strings and tensors."""
        return {"rounds": self.rounds, "costs": asdict(self.costs), "memory": self.memory}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self.rounds, self.memory = state["rounds"], state["memory"]
        self.costs = Ledger(**state["costs"])

    def _sample_groups(self, prompts: Sequence[str]) -> None:
        reached = None
        try:
            if self.limited is not None:
                self._limits.enter_context(self.limited(self.meter))
            drawn_from = self.objective.prompts(prompts, tuple(self.costs.queries), self.value)
            self.rollouts = [self._rollout(drawn_from, index) for index in self._own]
            with self.objective.sampling(self.policy, self.memory):
                _finish_in_turn(self._sample(rollout) for rollout in self.rollouts)
        except LimitError as error:
            reached = str(error)
        for message in self.processes.gather(reached):
            if message is not None:
                self._limits.close()
                raise LimitError(message)

    def _rollout(self, prompts: Sequence[str], index: int) -> Rollout:
        prompt = prompts[self._draw(len(prompts), index)]
        problem = self.problem_of(prompt, self.meter)
        noise = NoiseSource(prompt, self._seed(self.rounds, index), problem.shape, problem.device)
        weights, conditioning = self.value.weights, self.training.conditioning
        weighted = weights.cpu() > 0
        if conditioning is not None:
            weights = conditioning.draw(weighted, noise)
        return Rollout(
            problem.serving(weights),
            noise,
            members=self.objective.group_size,
            index=index,
            round=self.rounds,
            value=replace(self.value, weights=weights.to(problem.device)),
            memory=self.memory,
            problem_of=lambda other: self.problem_of(other, self.meter).serving(weights),
            conditioning=conditioning,
            weighted=weighted,
        )

    def _draw(self, prompts: int, index: int) -> int:
        """Return the index of a group's prompt. All prompts are drawn once, in random order, before any comes again."""
        done, place = divmod(self.rounds * self.objective.groups + index, prompts)
        source = NoiseSource("order of prompts", self.training.seed, ())
        return int(source.uniform(prompts, "turn", done).argsort()[place])

    def _seed(self, round_: int, index: int) -> int:
        return self.training.seed * SEEDS + round_ * self.objective.groups + index

    def _sample(self, rollout: Rollout) -> Callable[[], None]:
        """Sample a group. Return a function that waits for its rewards."""
        clean = self.objective.collect(rollout)
        if clean is None:
            return lambda: None
        asked = (self.value.weights > 0).expand(len(clean), -1).to(clean.device)
        scores = rollout.problem.asking(clean, rollout.problem.kernel.steps, asked)

        def finish() -> None:
            rollout.rewards = scores().cpu()

        return finish


def _finish_in_turn(works: Iterator[Callable[[], None]]) -> None:
    """Begin each work, and finish the one before it."""
    waiting: Callable[[], None] = lambda: None  # noqa: E731
    for work in works:
        waiting()
        waiting = work
    waiting()
