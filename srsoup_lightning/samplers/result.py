"""The result of a sampler, and what is told of it on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.search.sharing import StepState


@dataclass(frozen=True, eq=False)
class Observation:
    """What a step that asked about candidates saw of its P trajectories, on the problem's device.

    Args:
        standing: Where they stood before the step.
        rewards: Mean reward of the candidates around each trajectory, over those that were asked about, (P, M); NaN
            where none was.
    """

    standing: StepState
    rewards: Tensor

    @property
    def preferences(self) -> Tensor:
        """Weights of each trajectory's preference, (P, M); with anchors, these among them."""
        return self.standing.preferences

    @property
    def closeness(self) -> Tensor:
        """How close the pictures are that they were heading for, symmetric (P, P) in [0, 1]; computed when asked for.

        See :func:`srsoup_lightning.search.closeness.preview_closeness`.
        """
        return self.standing.preview_closeness


class Moment(NamedTuple):
    """Where a run stands, told after every denoising step.

    Attributes:
        step: Steps done, 1 ... steps.
        steps: Their number.
        ledger: What the soup has cost so far; the sampler goes on counting in it.
        observation: What the step saw; None where it asked about no candidates.
    """

    step: int
    steps: int
    ledger: Ledger
    observation: Observation | None = None


OnStep = Callable[[Moment], None]


@dataclass  # not frozen, for Lightning rebuilds the predictions that it moves between devices
class Soup:
    """The pictures of one prompt and one seed, one for every preference, and what they cost.

    Attributes:
        prompt: The prompt.
        seed: The seed.
        reward_names: The M rewards, in the order of the last axis.
        preference_names: The P preferences, in the order of the first axis.
        preferences: Their weights, (P, M).
        images: (P, 3, H, W) float32 in [0, 1], on the CPU.
        rewards: Scores of those very images, (P, M) float32, on the CPU.
        failed: Where a reward gave no score and the worst of the soup stands instead, bool (P, M), on the CPU.
        ledger: What the run cost.
    """

    prompt: str
    seed: int
    reward_names: tuple[str, ...]
    preference_names: tuple[str, ...]
    preferences: Tensor
    images: Tensor
    rewards: Tensor
    failed: Tensor
    ledger: Ledger
