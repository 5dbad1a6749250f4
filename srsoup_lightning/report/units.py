"""The units and the box that all runs of a comparison are measured in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from srsoup_lightning.pareto.scale import HIGH, LOW, Scale
from srsoup_lightning.report.comparable import prompts_of
from srsoup_lightning.runs.reading import FinishedRun, Picture

Box = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Scaling:
    """A scale for each prompt, and a box in its units: the reference point of all hypervolumes is the box's low corner.

    Attributes:
        rewards: The rewards, in the order of the last axis.
        scales: The scale of each prompt.
        low: The box's low corner in these units, the same for all rewards.
        high: Its high corner.
        unit: What a unit is, for axes.
        source: Where the units and the box come from, a sentence's end.
    """

    rewards: tuple[str, ...]
    scales: Mapping[str, Scale]
    low: float
    high: float
    unit: str
    source: str

    def standardise(self, prompt: str, pictures: Sequence[Picture]) -> Tensor:
        """Rewards (P, M) of a prompt's pictures, in units from the prompt's zero; float64."""
        return self.scales[prompt].standardise(scores_of(pictures, self.rewards))

    def in_box(self, points: Tensor) -> Tensor:
        """Points in these units as shares of the box's sides, 0 at the reference point."""
        return (points - self.low) / (self.high - self.low)

    def corners(self) -> dict[str, dict[str, list[float]]]:
        """The box {prompt: {reward: [low, high]}} in the rewards' own units."""
        return {
            prompt: dict(
                zip(
                    self.rewards,
                    torch.stack([scale.zero + side * scale.unit for side in (self.low, self.high)], 1).tolist(),
                    strict=True,
                )
            )
            for prompt, scale in self.scales.items()
        }


def scores_of(pictures: Sequence[Picture], rewards: Sequence[str]) -> Tensor:
    """Scores (P, M) of pictures, in the order of `rewards`; float64."""
    return torch.tensor([[picture.rewards[name] for name in rewards] for picture in pictures], dtype=torch.float64)


def scaling_of(runs: Sequence[FinishedRun], baseline: str | None, box: Box | None) -> Scaling:
    """The scaling of a comparison: by a baseline run, by box, or else by the extremes of all pictures together.

    Raises:
        ValueError: Both a baseline and box, a baseline that is no run or whose pictures of a prompt all score alike,
            box that leave out a reward or name another, or whose low isn't below high.
    """
    if baseline is not None and box is not None:
        raise ValueError(f"baseline is {baseline!r} and there are box too: give one of them")
    rewards = runs[0].rewards
    if baseline is not None:
        found = [run for run in runs if run.name == baseline]
        if not found:
            raise ValueError(f"baseline {baseline!r} is none of the runs: name one of {[run.name for run in runs]}")
        scales = {prompt: _moments(found[0], prompt, rewards) for prompt in prompts_of(found[0])}
        source = f"from {LOW:g} to {HIGH:+g} standard deviations around the mean of {baseline} for each prompt"
        return Scaling(rewards, scales, LOW, HIGH, f"standard deviations from {baseline}", source)
    source = "the given box" if box is not None else "the extremes of all runs' pictures together"
    scale = _between(_extremes(runs, rewards) if box is None else box, rewards)
    return Scaling(rewards, dict.fromkeys(prompts_of(runs[0]), scale), 0.0, 1.0, "shares of the box", source)


def own_units(run: FinishedRun) -> Scaling:
    """Scores as they are; the box is from 0 to 1 in each reward's own unit."""
    zero = torch.zeros(len(run.rewards), dtype=torch.float64)
    scale = Scale(zero, torch.ones_like(zero))
    return Scaling(run.rewards, dict.fromkeys(prompts_of(run), scale), 0.0, 1.0, "the rewards' own units", "0 to 1")


def _moments(run: FinishedRun, prompt: str, rewards: Sequence[str]) -> Scale:
    # One picture stands for several preferences in an unsteered soup; counted so often, it would narrow the deviation.
    distinct = {
        (picture.seed, tuple(picture.rewards.items()), None if picture.preference else number): picture
        for number, picture in enumerate(run.pictures)
        if picture.prompt == prompt
    }
    scores = scores_of(list(distinct.values()), rewards)
    if len(scores) < 2 or not (scores.std(0) > 0).all():
        raise ValueError(
            f"baseline {run.name!r} has {len(scores)} different pictures of {prompt!r}, which don't vary in each of "
            f"{list(rewards)}: make more, with other seeds, or give --box"
        )
    return Scale(scores.mean(0), scores.std(0))


def _extremes(runs: Sequence[FinishedRun], rewards: Sequence[str]) -> Box:
    scores = torch.cat([scores_of(run.pictures, rewards) for run in runs])
    low, high = scores.amin(0).tolist(), scores.amax(0).tolist()
    for name, below, above in zip(rewards, low, high, strict=True):
        if below == above:
            raise ValueError(f"all pictures of all runs have {name} {below:g}: give --box, or a --baseline that varies")
    return {name: (below, above) for name, below, above in zip(rewards, low, high, strict=True)}


def _between(box: Box, rewards: Sequence[str]) -> Scale:
    if set(box) != set(rewards):
        raise ValueError(f"box are of {sorted(box)}: give [low, high] for each of {list(rewards)}, and no other")
    for name, pair in box.items():
        if len(pair) != 2 or not pair[0] < pair[1] or not torch.tensor(pair).isfinite().all():
            raise ValueError(f"box of {name} are {list(pair)}: give finite [low, high] with low below high")
    low, high = torch.tensor([list(box[name]) for name in rewards], dtype=torch.float64).unbind(1)
    return Scale(low, high - low)
