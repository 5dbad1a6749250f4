"""Interface of a policy of adapters: what predictions at latents are made of, for the preference of each.

The adapters stay in memory. Each evaluation of the network has inputs of its own: a scale for each adapter, and, for an
adapter that is conditioned on it, the preference. So a batch may mix preferences.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Self

from torch import Tensor

InputKind = Literal["ranks", "embedding"]
"""Place where a preference enters an adapter: it scales the LoRA's ranks, or is added to the embedding of the time."""


class Evaluations(NamedTuple):
    """R evaluations of the network that the predictions at B latents are made of.

    Attributes:
        latents: Index (R,) of the latent of each evaluation, int64.
        share: Share (R,) of each evaluation in the prediction at its latent. The shares of a latent sum to 1.
        inputs: Inputs of the adapters, (R, K + M): a scale for each of K adapters, then the M numbers that an adapter
            is conditioned on.
    """

    latents: Tensor
    share: Tensor
    inputs: Tensor

    def combined(self, found: Tensor) -> Tensor:
        """Return predictions (B, ...) at the latents, from those (R, ...) of the evaluations."""
        latents = int(self.latents[-1]) + 1
        if len(self.latents) == latents:  # one evaluation for each
            return found
        weighted = found * self.share.view(-1, *[1] * (found.ndim - 1))
        return found.new_zeros(latents, *found.shape[1:]).index_add(0, self.latents, weighted)


@dataclass(frozen=True)
class Adapters(abc.ABC):
    """Policy of LoRAs between preferences. Each LoRA is a folder, file or hub id."""

    conditioned: ClassVar[bool] = False
    """Whether its adapter takes a preference as an input, so that its file must hold the part that brings it in."""

    @property
    @abc.abstractmethod
    def sources(self) -> tuple[str, ...]:
        """The K adapters."""

    @abc.abstractmethod
    def check(self, rewards: Sequence[str], weights: Tensor, eta: float) -> None:
        """Check that every preference can be served.

        Args:
            rewards: Names of the M rewards.
            weights: Weights (P, M) of the preferences.
            eta: Share of the noise that is drawn anew in each step.

        Raises:
            ValueError: One can't.
        """

    @abc.abstractmethod
    def evaluations(self, rewards: Sequence[str], weights: Tensor, chance: float) -> Evaluations:
        """Return the evaluations of predictions at B latents.

        Args:
            rewards: Names of the M rewards.
            weights: Weights (B, M) of the preference of each latent.
            chance: Random number in [0, 1) of the denoising step.
        """

    def knowing(self, rewards: Sequence[str], quantiles: Sequence[Sequence[float]] | None) -> Self:
        """Return the policy with what the file of a conditioned adapter tells. Others learn nothing from it.

        Args:
            rewards: Names of the rewards that the adapter was trained for, in their order.
            quantiles: Quantiles of the scores of each reward, where these are its input. None is the preference.
        """
        return self


def weighed(rewards: Sequence[str], weights: Tensor) -> set[str]:
    """Return the names of the rewards that have weight in some of the preferences (P, M)."""
    return {name for name, used in zip(rewards, (weights > 0).any(0).tolist(), strict=True) if used}


class BoundAdapters(NamedTuple):
    """A policy, and the networks that have its adapters.

    Attributes:
        policy: The policy.
        given: Returns a context in which the adapters have inputs (R, K + M), a row for each latent of the next batch.
    """

    policy: Adapters
    given: Callable[[Tensor], AbstractContextManager[None]]
