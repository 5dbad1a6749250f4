"""Borrowing that ends when trajectories part, not at a fixed step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from srsoup_lightning.search.closeness import Measure, closeness, require_measure
from srsoup_lightning.search.sharing import Sharing, StepState, listen_to_anchors, listen_to_self


@dataclass(frozen=True)
class Thresholded(Sharing):
    """A policy with a bound on closeness.

    Args:
        threshold: How close is close, in [0, 1]; 1 only where trajectories agree.
        measure: What is compared, "means" or "previews", see :func:`srsoup_lightning.search.closeness.closeness`.

    Raises:
        ValueError: A threshold outside [0, 1] or an unknown measure.
    """

    threshold: float = 0.9
    measure: Measure = "means"

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}: closeness lies in [0, 1], 1 where two trajectories agree")
        require_measure(self.measure)


@dataclass(frozen=True)
class Gated(Thresholded):
    """Listen to a reward's anchor while its trajectory is close, and to oneself from then on.

    A gate for every preference, reward and step in place of the paper's fixed phase: preferences near an anchor borrow
    from it for longer.

    Args:
        threshold: How close is close, in [0, 1]. 0 always borrows, 1 only where both agree.
        measure: What is compared, "means" or "previews", see :func:`srsoup_lightning.search.closeness.closeness`.

    Raises:
        ValueError: A threshold outside [0, 1] or an unknown measure.
    """

    def share(self, standing: StepState) -> Tensor:
        """See :meth:`Sharing.share`."""
        preferences = standing.preferences
        close = closeness(standing, self.measure)[:, : preferences.shape[1]] >= self.threshold  # (P, M)
        near, own = listen_to_anchors(preferences), listen_to_self(preferences)
        return torch.where(close.unsqueeze(1), near, own)


@dataclass(frozen=True)
class AdaptiveAnchors(Thresholded):
    """Listen to the nearest of as many suppliers as it takes for everyone to have a close one.

    The anchors supply; while someone is farther than the threshold from every supplier, the farthest becomes one too
    (Gonzalez 1985, farthest-first traversal). So queries grow with how far the trajectories have really parted.

    Args:
        threshold: The closeness that everyone has to a supplier at least, in [0, 1]. 0 leaves the anchors alone, 1 is
            the weighted sum.
        measure: What is compared, "means" or "previews", see :func:`srsoup_lightning.search.closeness.closeness`.

    Raises:
        ValueError: A threshold outside [0, 1] or an unknown measure.
    """

    def share(self, standing: StepState) -> Tensor:
        """See :meth:`Sharing.share`."""
        preferences = standing.preferences
        nearest = nearest_supplier(closeness(standing, self.measure), preferences.shape[1], self.threshold)
        chosen = torch.nn.functional.one_hot(nearest, len(nearest)).to(preferences.dtype)
        return chosen.unsqueeze(-1).repeat(1, 1, preferences.shape[1])


def nearest_supplier(closeness: Tensor, anchors: int, threshold: float) -> Tensor:
    """The supplier (P,) that each trajectory listens to: the closest of a farthest-first cover.

    Args:
        closeness: How close trajectories are, symmetric (P, P), 1 on the diagonal.
        anchors: How many of the first trajectories supply in any case, at least 1.
        threshold: The closeness that everyone has to some supplier at least.
    """
    suppliers = list(range(anchors))
    while True:
        best, which = closeness[:, suppliers].max(1)
        if best.min() >= threshold:
            return torch.tensor(suppliers, device=closeness.device)[which]
        suppliers.append(int(best.argmin()))
