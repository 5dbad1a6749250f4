"""Sharing that ends when trajectories part, and not at a fixed step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rewards.checks import require_choice
from srsoup_lightning.search.closeness import Measure
from srsoup_lightning.search.sharing import Sharing, StepState, share_anchors, share_own


@dataclass(frozen=True)
class Thresholded(Sharing):
    """Base of policies with a threshold of closeness.

    Args:
        threshold: Least closeness that counts as close, in [0, 1].
        measure: Measure of closeness, "means" or "previews", see :meth:`StepState.closeness`.

    Raises:
        ValueError: The threshold is outside [0, 1], or the measure is unknown.
    """

    threshold: float = 0.9
    measure: Measure = "means"

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}: closeness lies in [0, 1], 1 where two trajectories agree")
        require_choice("measure", self.measure, Measure)


@dataclass(frozen=True)
class Gated(Thresholded):
    """Use the gradient of a reward's anchor while its trajectory is close, and the own gradient from then on.

    There is a gate for every preference, reward and step, in place of the paper's fixed phase. So preferences near an
    anchor use its gradient for longer.

    Args:
        threshold: Least closeness that counts as close, in [0, 1]. 0 always shares. 1 shares only where both agree.
        measure: Measure of closeness, "means" or "previews", see :meth:`StepState.closeness`.

    Raises:
        ValueError: The threshold is outside [0, 1], or the measure is unknown.
    """

    def share(self, state: StepState) -> Tensor:
        """See :meth:`Sharing.share`."""
        preferences = state.preferences
        close = state.closeness(self.measure)[:, : preferences.shape[1]] >= self.threshold  # (P, M)
        return torch.where(close.unsqueeze(1), share_anchors(preferences), share_own(preferences))


@dataclass(frozen=True)
class AdaptiveAnchors(Thresholded):
    """Use the gradients of the nearest source. There are as many sources as give each trajectory a close one.

    The anchors are sources. While a trajectory is farther than the threshold from every source, the farthest one
    becomes a source too (farthest-first traversal, Gonzalez 1985). So queries grow with the distances of the
    trajectories.

    Args:
        threshold: Closeness that each trajectory has to some source at least, in [0, 1]. 0 takes the anchors alone. 1
            is the weighted sum.
        measure: Measure of closeness, "means" or "previews", see :meth:`StepState.closeness`.

    Raises:
        ValueError: The threshold is outside [0, 1], or the measure is unknown.
    """

    def share(self, state: StepState) -> Tensor:
        """See :meth:`Sharing.share`."""
        preferences = state.preferences
        nearest = nearest_source(state.closeness(self.measure), preferences.shape[1], self.threshold)
        chosen = torch.nn.functional.one_hot(nearest, len(nearest)).to(preferences.dtype)
        return chosen.unsqueeze(-1).repeat(1, 1, preferences.shape[1])


def nearest_source(closeness: Tensor, anchors: int, threshold: float) -> Tensor:
    """Return the index (P,) of each trajectory's closest source, of a farthest-first cover.

    Args:
        closeness: Closeness of trajectories, symmetric (P, P), 1 on the diagonal.
        anchors: Number of the first trajectories that are sources in any case, at least 1.
        threshold: Closeness that each trajectory has to some source at least.
    """
    sources = list(range(anchors))
    while True:
        best, which = closeness[:, sources].max(1)
        if best.min() >= threshold:
            return torch.tensor(sources, dtype=torch.int64, device=closeness.device)[which]
        sources.append(int(best.argmin()))
