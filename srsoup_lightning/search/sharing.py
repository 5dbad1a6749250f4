"""Who listens to whom: the policies that make one sampler the weighted sum, the paper's soup and what lies beyond."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.search.gradient import bhattacharyya


class Sharing(abc.ABC):
    """Says, at every step, how much each preference listens to each trajectory about each reward.

    Attributes:
        anchors: Whether the one-hot preferences must run even if nobody asked for their pictures.
        own_noise: Whether each trajectory draws candidates of its own; if not, all share one set of draws.
    """

    anchors: ClassVar[bool] = True
    own_noise: ClassVar[bool] = False

    @abc.abstractmethod
    def share(self, step: int, means: Tensor, sigma: float, preferences: Tensor) -> Tensor:
        """Sharing weights (P, P, M), at least 0: how much p listens to s about reward j.

        Args:
            step: Index of the denoising step, 0 the noisiest.
            means: Where each trajectory's transition is centred, (P, C, H, W).
            sigma: Standard deviation of the transition, above 0.
            preferences: Weights of each trajectory's preference, (P, M); with `anchors`, row j < M is one-hot at j.
        """


def listen_to_self(preferences: Tensor) -> Tensor:
    """(P, P, M): every trajectory asks every reward itself."""
    trajectories, rewards = preferences.shape
    own = torch.eye(trajectories, dtype=preferences.dtype, device=preferences.device)
    return own.unsqueeze(-1).repeat(1, 1, rewards)


def listen_to_anchors(preferences: Tensor) -> Tensor:
    """(P, P, M): about reward j, everyone listens to anchor j, the j-th trajectory."""
    trajectories, rewards = preferences.shape
    share = preferences.new_zeros(trajectories, trajectories, rewards)
    for reward in range(rewards):
        share[:, reward, reward] = 1
    return share


@dataclass(frozen=True)
class Never(Sharing):
    """Every preference asks for itself at every step: the weighted sum. Queries grow with the preferences."""

    anchors: ClassVar[bool] = False

    def share(self, step: int, means: Tensor, sigma: float, preferences: Tensor) -> Tensor:
        """See :meth:`Sharing.share`."""
        return listen_to_self(preferences)


@dataclass(frozen=True)
class FixedSoup(Sharing):
    """Everyone listens to the anchors while start <= step < end, and to itself before and after: the paper's SRSoup.

    Yao et al. 2026, Sample Reward Soups, algorithm 1.

    Args:
        start: First step of the soup phase, 0 the noisiest.
        end: First step after it; `start` makes the phase empty.

    Raises:
        ValueError: A negative start, or an end before it.
    """

    start: int = 0
    end: int = 20

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"FixedSoup({self.start}, {self.end}) is no phase: give 0 <= start <= end, e.g. 0 and 20")

    def share(self, step: int, means: Tensor, sigma: float, preferences: Tensor) -> Tensor:
        """See :meth:`Sharing.share`."""
        return listen_to_anchors(preferences) if self.start <= step < self.end else listen_to_self(preferences)


@dataclass(frozen=True)
class Gated(Sharing):
    """Listen to a reward's anchor while its denoising distribution is close, and to oneself from then on.

    A gate for every preference, reward and step in place of the paper's fixed phase: preferences near an anchor borrow
    from it for longer.

    Args:
        threshold: How close is close: the Bhattacharyya coefficient per dimension of preference and anchor, in
            [0, 1]. 0 always borrows, 1 only where both stand at one point.

    Raises:
        ValueError: A threshold outside [0, 1].
    """

    threshold: float = 0.6

    def __post_init__(self) -> None:
        _require_threshold(self.threshold)

    def share(self, step: int, means: Tensor, sigma: float, preferences: Tensor) -> Tensor:
        """See :meth:`Sharing.share`."""
        rewards = preferences.shape[1]
        close = bhattacharyya(means, means[:rewards], sigma) >= self.threshold  # (P, M)
        near, own = listen_to_anchors(preferences), listen_to_self(preferences)
        return torch.where(close.unsqueeze(1), near, own)


@dataclass(frozen=True)
class AdaptiveAnchors(Sharing):
    """Listen to the nearest of as many suppliers as it takes for everyone to have a close one.

    The anchors supply; while someone is farther than the threshold from every supplier, the farthest becomes one too
    (Gonzalez 1985, farthest-first traversal). So queries grow with how far the trajectories have really parted.

    Args:
        threshold: The Bhattacharyya coefficient per dimension that everyone has to a supplier at least, in [0, 1]. 0
            leaves the anchors alone, 1 is the weighted sum.

    Raises:
        ValueError: A threshold outside [0, 1].
    """

    threshold: float = 0.6

    def __post_init__(self) -> None:
        _require_threshold(self.threshold)

    def share(self, step: int, means: Tensor, sigma: float, preferences: Tensor) -> Tensor:
        """See :meth:`Sharing.share`."""
        nearest = nearest_supplier(bhattacharyya(means, means, sigma), preferences.shape[1], self.threshold)
        chosen = torch.nn.functional.one_hot(nearest, len(means)).to(preferences.dtype)
        return chosen.unsqueeze(-1).repeat(1, 1, preferences.shape[1])


@dataclass(frozen=True)
class Pooled(Sharing):
    """Everyone draws candidates of its own and listens to everyone, the less the farther away.

    Where trajectories are close, few candidates each make one good estimate together; where they have parted, each is
    left with its own. Nobody is asked about a reward that has no weight for itself.

    Args:
        power: The sharing weight is the Bhattacharyya coefficient per dimension to this power, at least 0; 0 listens to
            everyone alike, a large one to oneself.

    Raises:
        ValueError: A negative or infinite power.
    """

    power: float = 1.0

    own_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.power < torch.inf:
            raise ValueError(f"power is {self.power}: give a finite number, at least 0, e.g. 1")

    def share(self, step: int, means: Tensor, sigma: float, preferences: Tensor) -> Tensor:
        """See :meth:`Sharing.share`; the weights of each preference and reward have unit sum of squares.

        So every reward's gradient comes with as much noise, however many supply it.
        """
        closeness = bhattacharyya(means, means, sigma) ** self.power
        heard = closeness.unsqueeze(-1) * (preferences > 0)
        return heard / torch.linalg.vector_norm(heard, dim=1, keepdim=True).clamp_min(torch.finfo(heard.dtype).tiny)


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


def _require_threshold(threshold: float) -> None:
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}: closeness lies in [0, 1], 1 where two trajectories agree")
