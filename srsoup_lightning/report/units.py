"""Units of rewards, and the box of the hypervolume, that all runs of a comparison are measured in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from srsoup_lightning.pareto.scale import HIGH, LOW, Scale
from srsoup_lightning.runs.reading import Run
from srsoup_lightning.runs.rows import ImageRow

Box = Mapping[str, Sequence[float]]
"""{reward: [low, high]}, the box that has hypervolume 1."""


@dataclass(frozen=True)
class Units:
    """A scale for each prompt, and a box in its units. The box's low corner is the reference point of hypervolumes.

    Attributes:
        rewards: The M rewards, in the order of the last axis.
        scales: Scale of each prompt.
        low: Low corner of the box in these units, the same for all rewards.
        high: High corner of the box.
        unit: Name of the unit, for axes.
        source: Origin of the units and the box, for messages.
    """

    rewards: tuple[str, ...]
    scales: Mapping[str, Scale]
    low: float
    high: float
    unit: str
    source: str

    def standardise(self, prompt: str, images: Sequence[ImageRow]) -> Tensor:
        """Return rewards (P, M) of P images of a prompt, in units from the prompt's zero; float64."""
        return self.scales[prompt].standardise(scores_of(images, self.rewards))

    def in_box(self, points: Tensor) -> Tensor:
        """Convert points (P, M) in these units to shares of the box's sides, 0 at the reference point."""
        return (points - self.low) / (self.high - self.low)

    def corners(self) -> dict[str, dict[str, list[float]]]:
        """Return the box {prompt: {reward: [low, high]}} in the rewards' own units."""
        found = {}
        for prompt, scale in self.scales.items():
            ends = torch.stack([scale.zero + side * scale.unit for side in (self.low, self.high)], 1)
            found[prompt] = dict(zip(self.rewards, ends.tolist(), strict=True))
        return found

    def box_text(self) -> str:
        """Return the origin of the box in words, with its corners where all prompts have the same."""
        first, *others = self.corners().values()
        return (
            self.source if others and any(other != first for other in others) else f"{self.source}, {box_text(first)}"
        )


def box_text(box: Box) -> str:
    """Return the corners of a box in words."""
    return ", ".join(f"{name} {low:.4g} to {high:.4g}" for name, (low, high) in box.items())


def scores_of(images: Sequence[ImageRow], rewards: Sequence[str]) -> Tensor:
    """Return scores (P, M) of P images, in the order of `rewards`; float64."""
    return torch.tensor([[row.rewards[name] for name in rewards] for row in images], dtype=torch.float64)


def require_box(box: Box, rewards: Sequence[str]) -> None:
    """Check that a box has finite corners for each reward, low below high. It may have others beside them.

    Raises:
        ValueError: It has not.
    """
    missing = sorted(set(rewards) - set(box))
    if missing:
        raise ValueError(f"box leaves out {missing}: give [low, high] for each of {list(rewards)}")
    for name in rewards:
        pair = box[name]
        if len(pair) != 2 or not pair[0] < pair[1] or not torch.tensor(pair, dtype=torch.float64).isfinite().all():
            raise ValueError(f"box of {name} is {list(pair)}: give finite [low, high] with low below high")


def units_of(runs: Sequence[Run], baseline: str | None, box: Box | None) -> Units:
    """Return the units of a comparison: by a baseline run, by a box, or by the extremes of all images together.

    Raises:
        ValueError: There are both a baseline and a box. Or the baseline is none of the runs, or all its images of a
            prompt score alike. Or the box leaves out a reward, names another, or has a low that is not below its high.
    """
    rewards = runs[0].rewards
    if baseline is not None:
        if box is not None:
            raise ValueError(f"baseline is {baseline!r} and there is a box too: give one of them")
        return _baseline_units(runs, baseline)
    if box is None:
        box = extremes(runs)
        for name, (low, high) in box.items():
            if low == high:
                raise ValueError(
                    f"all pictures of all runs have {name} {low:g}: give --box, or a --baseline that varies"
                )
        return box_units(runs[0], box, "the extremes of all runs' pictures together")
    require_box(box, rewards)
    if unknown := sorted(set(box) - set(rewards)):
        raise ValueError(f"box has {unknown} too: give [low, high] for each of {list(rewards)}, and no other")
    return box_units(runs[0], box, "the given box")


def box_units(run: Run, box: Box, source: str) -> Units:
    """Return units in which the box goes from 0 to 1, for all prompts of a run.

    Args:
        run: The run.
        box: Box of its rewards; see :func:`require_box`.
        source: Origin of the box, for messages.
    """
    low, high = torch.tensor([list(box[name]) for name in run.rewards], dtype=torch.float64).unbind(1)
    scales = dict.fromkeys(run.prompts, Scale(low, high - low))
    return Units(run.rewards, scales, 0.0, 1.0, "shares of the box", source)


def own_units(run: Run) -> Units:
    """Return units that leave scores as they are. The box goes from 0 to 1 in each reward's own unit."""
    zero = torch.zeros(len(run.rewards), dtype=torch.float64)
    scales = dict.fromkeys(run.prompts, Scale(zero, torch.ones_like(zero)))
    return Units(run.rewards, scales, 0.0, 1.0, "the rewards' own units", "0 to 1")


def extremes(runs: Sequence[Run]) -> dict[str, tuple[float, float]]:
    """Return the lowest and the highest score of each reward over all images of the runs."""
    scores = torch.cat([scores_of(run.images, runs[0].rewards) for run in runs])
    return dict(zip(runs[0].rewards, zip(scores.amin(0).tolist(), scores.amax(0).tolist(), strict=True), strict=True))


def _baseline_units(runs: Sequence[Run], baseline: str) -> Units:
    found = [run for run in runs if run.name == baseline]
    if not found:
        raise ValueError(f"baseline {baseline!r} is none of the runs: name one of {[run.name for run in runs]}")
    rewards = runs[0].rewards
    scales = {prompt: _moments(found[0], prompt, rewards) for prompt in found[0].prompts}
    source = f"from {LOW:g} to {HIGH:+g} standard deviations around the mean of {baseline} for each prompt"
    return Units(rewards, scales, LOW, HIGH, f"standard deviations from {baseline}", source)


def _moments(run: Run, prompt: str, rewards: Sequence[str]) -> Scale:
    # One picture serves several preferences in an unsteered soup. Counted for each, it would narrow the deviation.
    distinct = {
        (row.seed, tuple(row.rewards.items()), None if row.preference else number): row
        for number, row in enumerate(run.images)
        if row.prompt == prompt
    }
    scores = scores_of(list(distinct.values()), rewards)
    if len(scores) < 2 or not (scores.std(0) > 0).all():
        raise ValueError(
            f"baseline {run.name!r} has {len(scores)} different pictures of {prompt!r}, which don't vary in each of "
            f"{list(rewards)}: make more, with other seeds, or give --box"
        )
    return Scale(scores.mean(0), scores.std(0))
