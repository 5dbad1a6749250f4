"""Policies of adapters: soups of weights, blends of predictions, and adapters that know the preference."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from rewards.checks import require_choice
from srsoup_lightning.adapters.base import Adapters, Evaluations, weighed

Mode = Literal["all", "drawn"]
TOLERANCE = 1e-6  # largest difference of two weights that count as equal


@dataclass(frozen=True)
class OneForEachReward(Adapters, abc.ABC):
    """Base of policies of one adapter for each reward.

    Args:
        adapters: Adapter of each reward, by the reward's name. A reward without weight in all preferences needs none.
        strength: Strength of the adapters: 0 is the base model, 1 is as they were trained, and more extrapolates.

    Raises:
        ValueError: There are no adapters, or the strength is no finite number.
    """

    adapters: Mapping[str, str]
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not self.adapters:
            raise ValueError(f"{type(self).__name__} has no adapters: give one for each reward, {{reward: folder}}")
        if not isfinite(self.strength):
            raise ValueError(f"strength is {self.strength}: give a finite number, 1 for adapters as they were trained")

    @property
    def sources(self) -> tuple[str, ...]:
        """See :attr:`Adapters.sources`."""
        return tuple(self.adapters.values())

    def check(self, rewards: Sequence[str], weights: Tensor, eta: float) -> None:
        """See :meth:`Adapters.check`."""
        if unknown := sorted(set(self.adapters) - set(rewards)):
            raise ValueError(f"adapters are given for {unknown}: the rewards are {list(rewards)}")
        if missing := sorted(weighed(rewards, weights) - set(self.adapters)):
            raise ValueError(f"there is no adapter for {missing}: give one for each reward that a preference weighs")

    def shares(self, rewards: Sequence[str], weights: Tensor) -> Tensor:
        """Return the weights (B, K) of each latent's preference, by adapter, from those (B, M) by reward."""
        columns = [weights[:, rewards.index(name)] if name in rewards else weights[:, 0] * 0 for name in self.adapters]
        return torch.stack(columns, 1)


@dataclass(frozen=True)
class RewardedSoup(OneForEachReward):
    """Interpolation of weights: ``W + strength * sum_m w_m B_m A_m`` (Rame et al. 2023, arXiv:2306.04488).

    The products of the adapters' matrices are averaged, exactly. A prediction costs one evaluation of the network,
    whatever the number of rewards.

    Arguments and errors are those of :class:`OneForEachReward`.
    """

    def evaluations(self, rewards: Sequence[str], weights: Tensor, chance: float) -> Evaluations:
        """See :meth:`Adapters.evaluations`."""
        scales = self.strength * self.shares(rewards, weights)
        return Evaluations(torch.arange(len(weights), device=weights.device), torch.ones_like(scales[:, 0]), scales)


@dataclass(frozen=True)
class DiffusionBlend(OneForEachReward):
    """Interpolation of predictions (Cheng et al. 2025, arXiv:2505.18547).

    "all" adds the predictions of all adapters that the preference weighs, each with its weight (DB-MPA). A prediction
    costs that many evaluations. "drawn" takes one adapter in each denoising step, drawn with the weights as
    probabilities (DB-MPA-LS), at one evaluation. It is right on average over steps that draw noise. All preferences
    of a soup draw with the same random number. A `strength` other than 1 is that of DB-KLA: the prediction moves away
    from that of the base model, which is one more evaluation.

    Args:
        adapters: See :class:`OneForEachReward`.
        strength: See :class:`OneForEachReward`; the inverse of the weight of the KL divergence in training.
        mode: "all" or "drawn".

    Raises:
        ValueError: The mode is unknown, or see :class:`OneForEachReward`.
    """

    mode: Mode = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("mode", self.mode, Mode)

    def check(self, rewards: Sequence[str], weights: Tensor, eta: float) -> None:
        """See :meth:`Adapters.check`."""
        super().check(rewards, weights, eta)
        if self.mode == "drawn" and eta == 0:
            raise ValueError(
                "eta is 0, and the adapter of each step is drawn, which is right on average over steps that draw noise "
                "alone: give eta above 0, or mode: all"
            )

    def evaluations(self, rewards: Sequence[str], weights: Tensor, chance: float) -> Evaluations:
        """See :meth:`Adapters.evaluations`."""
        shares = self.shares(rewards, weights)
        if self.mode == "drawn":
            shares = drawn(shares, chance)
        shares, scales = self.strength * shares, torch.eye(shares.shape[1], dtype=shares.dtype, device=shares.device)
        if self.strength != 1:
            shares = torch.cat([shares, torch.full_like(shares[:, :1], 1 - self.strength)], 1)
            scales = torch.cat([scales, torch.zeros_like(scales[:1])])
        index, adapter = shares.nonzero(as_tuple=True)
        return Evaluations(index, shares[index, adapter], scales[adapter])


@dataclass(frozen=True)
class MORL(Adapters):
    """One adapter for each preference: as many trainings as there are preferences, the costly upper bound.

    Args:
        adapters: Preference that each adapter was trained for, {adapter: {reward: weight}}.

    Raises:
        ValueError: There are no adapters.
    """

    adapters: Mapping[str, Mapping[str, float]]

    def __post_init__(self) -> None:
        if not self.adapters:
            raise ValueError("MORL has no adapters: give one for each preference, {folder: {reward: weight}}")

    @property
    def sources(self) -> tuple[str, ...]:
        """See :attr:`Adapters.sources`."""
        return tuple(self.adapters)

    def check(self, rewards: Sequence[str], weights: Tensor, eta: float) -> None:
        """See :meth:`Adapters.check`."""
        for source, point in self.adapters.items():
            if unknown := sorted(set(point) - set(rewards)):
                raise ValueError(f"adapter {source!r} was trained for {unknown}: the rewards are {list(rewards)}")
        for row, match in zip(weights.tolist(), self._matches(rewards, weights).sum(1).tolist(), strict=True):
            if match != 1:
                point = dict(zip(rewards, row, strict=True))
                raise ValueError(f"{match} adapters were trained for the preference {point}: give one")

    def evaluations(self, rewards: Sequence[str], weights: Tensor, chance: float) -> Evaluations:
        """See :meth:`Adapters.evaluations`."""
        scales = self._matches(rewards, weights).to(weights.dtype)
        return Evaluations(torch.arange(len(weights), device=weights.device), torch.ones_like(scales[:, 0]), scales)

    def _matches(self, rewards: Sequence[str], weights: Tensor) -> Tensor:
        """Return which adapters (B, K) were trained for the preference of each latent."""
        rows = [[point.get(name, 0.0) for name in rewards] for point in self.adapters.values()]
        trained = torch.tensor(rows, dtype=weights.dtype, device=weights.device)
        return (weights.unsqueeze(1) - trained).abs().amax(2) <= TOLERANCE


@dataclass(frozen=True)
class PreferenceConditioned(Adapters):
    """One adapter that takes the preference as an input, trained by a fit with ``training.conditioning``.

    Args:
        source: Folder of the adapter.
        rewards: Names of the rewards that it was trained for, in their order. None takes those in its file.
        strength: Scale of the adapter: 0 is the base model, and 1 is as it was trained.
        quantiles: Quantiles of the standardised scores of each reward, where these are the input of the adapter in
            place of the preference, see :func:`target_scores`. None takes those in its file, if any.

    Raises:
        ValueError: The strength is no finite number.
    """

    source: str
    rewards: tuple[str, ...] | None = None
    strength: float = 1.0
    quantiles: tuple[tuple[float, ...], ...] | None = None

    conditioned: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isfinite(self.strength):
            raise ValueError(f"strength is {self.strength}: give a finite number, 1 for the adapter as it was trained")

    @property
    def sources(self) -> tuple[str, ...]:
        """See :attr:`Adapters.sources`."""
        return (self.source,)

    def knowing(self, rewards: Sequence[str], quantiles: Sequence[Sequence[float]] | None) -> Self:
        """See :meth:`Adapters.knowing`."""
        kept = None if quantiles is None else tuple(tuple(each) for each in quantiles)
        return replace(self, rewards=tuple(rewards), quantiles=kept)

    def check(self, rewards: Sequence[str], weights: Tensor, eta: float) -> None:
        """See :meth:`Adapters.check`."""
        if self.rewards is None:
            return
        if unknown := sorted(weighed(rewards, weights) - set(self.rewards)):
            raise ValueError(
                f"the preferences weigh {unknown}, and {self.source!r} was trained for {list(self.rewards)} alone"
            )

    def evaluations(self, rewards: Sequence[str], weights: Tensor, chance: float) -> Evaluations:
        """See :meth:`Adapters.evaluations`."""
        ones = torch.ones_like(weights[:, :1])
        names = self.rewards or tuple(rewards)
        columns = [weights[:, [rewards.index(name)]] if name in rewards else 0 * ones for name in names]
        known = torch.cat(columns, 1)
        if self.quantiles is not None:
            known = target_scores(known, known.new_tensor(self.quantiles))
        inputs = torch.cat([self.strength * ones, known], 1)
        return Evaluations(torch.arange(len(weights), device=weights.device), ones[:, 0], inputs)


def target_scores(weights: Tensor, quantiles: Tensor) -> Tensor:
    """Return the scores (B, M) that preferences aim at, as in Rewards-in-Context (Yang et al. 2024, arXiv:2402.10207).

    The reward of the largest weight aims at its highest score. Another one of weight w aims at the quantile
    ``min(1, M w)`` of its scores. For two rewards, this is the authors' rule; they have none for more.

    Args:
        weights: Weights (B, M) of the preferences.
        quantiles: Quantiles (M, Q) of the scores of each reward, evenly spaced from 0 to 1.
    """
    last = quantiles.shape[1] - 1
    places = (weights.shape[1] * weights).clamp(max=1) * last
    places = torch.where(weights == weights.amax(1, keepdim=True), last, places)
    below = places.floor().long().clamp(max=max(last - 1, 0))
    columns = torch.arange(len(quantiles), device=weights.device).expand_as(below)
    low, high = quantiles[columns, below], quantiles[columns, (below + 1).clamp(max=last)]
    return low + (places - below) * (high - low)


def drawn(shares: Tensor, chance: float) -> Tensor:
    """Return one-hot rows (B, K): the adapter that a random number in [0, 1) draws with probabilities (B, K)."""
    edges = shares.cumsum(1)
    chosen = (edges <= chance * edges[:, -1:]).sum(1).clamp(max=shares.shape[1] - 1)
    return torch.nn.functional.one_hot(chosen, shares.shape[1]).to(shares.dtype)
