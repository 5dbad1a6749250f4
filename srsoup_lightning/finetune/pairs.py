"""Pairs of a winner and a loser of one prompt: where they come from, and how they are made from ranked pictures."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rewards.checks import require_choice
from srsoup_lightning.finetune.reinforcement import value_in_first_units
from srsoup_lightning.finetune.rollout import Memory, Rollout, Scores
from srsoup_lightning.search.ranked_pairs import Match, matched, number_of_pairs
from srsoup_lightning.search.scalarise import Value


class Pairs(abc.ABC):
    """Source of pairs. A group has the pairs of one prompt, and all groups have the same number of them.

    What a group needs later is kept in ``rollout.tensors``: "clean", latents (N, C, H, W); "winner" and "loser", their
    indices (P,) in each pair; and "weight", weights (P,) of the pairs, whose mean over a round is 1.
    """

    @abc.abstractmethod
    def count(self, group_size: int) -> int:
        """Return the number of pairs of a group.

        Raises:
            ValueError: A group of this size has no pairs.
        """

    @abc.abstractmethod
    def collect(self, rollout: Rollout) -> Tensor | None:
        """Collect a group, without gradients. Return clean latents to ask the rewards about, or None."""

    def prompts(self, given: Sequence[str], rewards: Sequence[str], value: Value) -> Sequence[str]:
        """See :meth:`Objective.prompts`."""
        return given

    def prepare(self, own: Sequence[Rollout], everyone: Sequence[Scores], memory: Memory) -> dict[str, float]:
        """See :meth:`Objective.prepare`."""
        return {}


@dataclass(frozen=True)
class RankedSamples(Pairs):
    """Pairs of the model's own samples, drawn anew in each round and ranked by their rewards.

    Several rewards are added in units of their standard deviations in the first round. Samples that are equally good
    make no pair; the other pairs of the round then weigh more.

    Args:
        match: "extremes" pairs the best sample of a group with the worst one. "mirrored" also pairs the second best
            with the second worst, and so on. "all" pairs each sample with each.

    Raises:
        ValueError: The match is unknown.
    """

    match: Match = "extremes"

    def __post_init__(self) -> None:
        require_choice("match", self.match, Match)

    def count(self, group_size: int) -> int:
        """See :meth:`Pairs.count`."""
        if group_size < 2:
            raise ValueError(f"group_size is {group_size}: pairs are made of the samples of a prompt, give at least 2")
        return number_of_pairs(group_size, self.match)

    def collect(self, rollout: Rollout) -> Tensor:
        """See :meth:`Pairs.collect`; samples of the model."""
        clean = rollout.sample()
        rollout.tensors = {"clean": clean.cpu()}
        return clean

    def prepare(self, own: Sequence[Rollout], everyone: Sequence[Scores], memory: Memory) -> dict[str, float]:
        """See :meth:`Pairs.prepare`; ranks the samples."""
        rewards = [group.rewards for group in everyone]
        value = value_in_first_units(torch.cat(rewards), memory, own[0].value)
        values = [group.values(value) for group in everyone]
        pairs = [matched(group, self.match) for group in values]
        decided = float(torch.cat([each.decided for each in pairs]).float().mean())
        for rollout in own:
            winner, loser, better = pairs[rollout.index]
            weight = better / decided if decided else torch.zeros(len(better), dtype=torch.float32)
            rollout.tensors |= {"winner": winner, "loser": loser, "weight": weight}
        return {"value": float(torch.cat(values).mean()), "pairs/decided": decided}
