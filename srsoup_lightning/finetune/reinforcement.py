"""Base of the objectives that compare rewards of samples: advantages, and the state that they need."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rewards.checks import require_choice
from srsoup_lightning.finetune.advantages import Compared, Spread, decoupled, group_relative, of_the_front, tracked
from srsoup_lightning.finetune.base import Objective
from srsoup_lightning.finetune.rollout import Memory, Rollout, Scores
from srsoup_lightning.search.scalarise import Units, Value

Advantage = Literal["group", "tracker", "gdpo"]


@dataclass(frozen=True, kw_only=True)
class Reinforcement(Objective, abc.ABC):
    """Objective that gives each sample an advantage: its reward, compared with those of other samples of its prompt.

    Several rewards are added in units of their standard deviations in the first round. These units stay.

    Args:
        advantage: "group" compares with the group, as in GRPO. "tracker" compares with the latest samples of the
            prompt, as in DDPO. "gdpo" compares each reward on its own, before the rewards are added.
        spread: "group" divides by the standard deviation of the group, and "round" by that of all groups. It matters
            for the advantage "group" alone.
        front_only: Learn from the samples alone that no other one of their group dominates, as in Parrot
            (arXiv:2401.05675). With many rewards, hardly any sample is dominated.
        hindsight: Train each sample for preferences that are drawn anew in each pass, where the preference is an input
            of the adapter. Its rewards tell how good it is for any of them. So samples teach how pictures differ
            between preferences, and not only what those of one preference have in common.
        advantage_clip: Largest magnitude of an advantage, above 0.
        tracker_size: Number of values of a prompt that the tracker keeps.
        tracker_least: Number of values of a prompt from which on the tracker uses them.

    Raises:
        ValueError: An argument is outside its range, or a group has one member.
    """

    advantage: Advantage = "group"
    spread: Spread = "round"
    front_only: bool = False
    hindsight: bool = True
    advantage_clip: float = 5.0
    tracker_size: int = 32
    tracker_least: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("advantage", self.advantage, Advantage)
        require_choice("spread", self.spread, Spread)
        if self.group_size < 2:
            raise ValueError(
                f"group_size is {self.group_size}: advantages compare the samples of a prompt, give at least 2"
            )
        if not self.advantage_clip > 0:
            raise ValueError(f"advantage_clip is {self.advantage_clip}: give a number above 0")

    def prepare(self, own: Sequence[Rollout], everyone: Sequence[Scores], memory: Memory) -> dict[str, float]:
        """See :meth:`Objective.prepare`."""
        rewards = [group.rewards for group in everyone]
        value = value_in_first_units(torch.cat(rewards), memory, own[0].value)
        values = [group.values(value) for group in everyone]
        compared = self._compared(everyone, value, memory)
        if self.front_only:
            compared = of_the_front(compared, rewards, own[0].weighted)
        for rollout in own:
            rollout.compared = compared[rollout.index]
        advantages = [each.advantages(group.weights) for each, group in zip(compared, everyone, strict=True)]
        clipped = torch.cat(advantages).clamp(-self.advantage_clip, self.advantage_clip)
        constant = [float(group.std(correction=0) == 0) for group in values]
        return {
            "value": float(torch.cat(values).mean()),
            "advantage/spread": float(clipped.std(correction=0)),
            "advantage/constant_groups": sum(constant) / len(constant),
        }

    def preferences(self, rollout: Rollout, rows: slice, index: int) -> Tensor | None:
        """Return the preferences (B, M) that some members are trained for in a pass, on the problem's device.

        None is that which they were sampled for.
        """
        drawn = rollout.redrawn(rows, index) if self.hindsight else None
        return None if drawn is None else drawn.to(rollout.problem.device)

    def advantages(self, rollout: Rollout, rows: slice, preferences: Tensor | None) -> Tensor:
        """Return the advantages (B,) of some members for these preferences, see :meth:`preferences`."""
        assert rollout.compared is not None
        weights = rollout.value.weights if preferences is None else preferences
        found = rollout.compared.rows(rows).advantages(weights.cpu())
        return found.clamp(-self.advantage_clip, self.advantage_clip).float().to(rollout.problem.device)

    def _compared(self, everyone: Sequence[Scores], value: Value, memory: Memory) -> list[Compared]:
        rewards, units = [group.rewards for group in everyone], value.units
        assert units is not None
        if self.advantage == "gdpo":
            return decoupled(rewards)
        alike = [units.standardise(group) for group in rewards]
        if self.advantage == "group":
            return group_relative(alike, self.spread)
        prompts, buffers = [group.prompt for group in everyone], memory.setdefault("tracker", {})
        return tracked(prompts, alike, buffers, size=self.tracker_size, least=self.tracker_least)


def value_in_first_units(rewards: Tensor, memory: Memory, value: Value) -> Value:
    """Return the value of rewards in units of the first round in which they varied. The memory keeps the units.

    Args:
        rewards: Rewards (K, M) of this round.
        memory: State of the objective.
        value: Value of rewards to the preference.

    Returns:
        The value, on the CPU.
    """
    weights = value.weights.cpu()
    found, infinite = Units.of(rewards), [torch.inf] * len(weights)
    kept = memory.setdefault("units", {"zero": [0.0] * len(weights), "unit": infinite})
    for column, unit in enumerate(kept["unit"]):
        if unit == torch.inf:  # a reward that was constant up to now
            kept["zero"][column], kept["unit"][column] = float(found.zero[column]), float(found.unit[column])
    return Value(
        weights, value.kind, Units(*(torch.tensor(kept[name], dtype=torch.float32) for name in ("zero", "unit")))
    )
