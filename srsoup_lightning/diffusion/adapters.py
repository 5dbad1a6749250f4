"""Adapters that serve every preference: how the prediction at a latent depends on the preference it is made for.

The adapters stay in memory. Each evaluation of the network has inputs of its own: a scale for each adapter, and, for an
adapter that is conditioned on it, the preference. So a batch may mix preferences.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from srsoup_lightning.diffusion.transition import Prediction


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

    def combined(self, found: Prediction) -> Prediction:
        """Return the predictions at the B latents, from those of the R evaluations."""
        if len(self.latents) == int(self.latents[-1]) + 1:  # one evaluation for each latent
            return found
        return Prediction(*(self._sums(each) for each in found))

    def _sums(self, found: Tensor) -> Tensor:
        weighted = found * self.share.view(-1, *[1] * (found.ndim - 1))
        sums = found.new_zeros(int(self.latents[-1]) + 1, *found.shape[1:])
        return sums.index_add(0, self.latents, weighted)


@dataclass(frozen=True)
class Adapters(abc.ABC):
    """Policy of LoRAs between preferences. Each LoRA is a folder, file or hub id."""

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


class BoundAdapters(NamedTuple):
    """A policy, and the networks that have its adapters.

    Attributes:
        policy: The policy.
        given: Returns a context in which the adapters have inputs (R, K + M), a row for each latent of the next batch.
    """

    policy: Adapters
    given: Callable[[Tensor], AbstractContextManager[None]]
