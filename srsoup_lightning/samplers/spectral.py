"""Spectral evolution search: the low frequencies of the start alone are searched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.samplers.noise_search import Archive, NoiseSearch
from srsoup_lightning.search.bands import haar, inverse_haar

JITTER = 1e-7  # added to each variance by the released code


@dataclass(frozen=True, kw_only=True)
class SES(NoiseSearch):
    """Spectral evolution search (arXiv:2602.03208): the cross-entropy method on the low band of the start.

    The start of the seed gives the high bands of the Haar transform. The low band of a picture's start is drawn from a
    Gaussian with a mean and a variance for each number, at first standard normal. After each generation these are the
    mean and the variance of the elites: the best of all pictures so far, for this preference. Preferences with the same
    elites share their generation, and all of them share the first one.

    Pictures for one preference: ``popsize * generations``. For P preferences: at most ``popsize (1 + P (generations -
    1))``. Each costs T predictions and a query of each reward that some preference weighs.

    Args:
        popsize: Number of pictures of a generation, at least 2.
        generations: Number of generations, at least 1.
        elites: Number of elites, from 2 to `popsize`.
        level: Number of times that the start is halved, at least 1. 4 is published for latents of 128 x 128, and leaves
            8 x 8 numbers of each channel. Give 1 or 2 for latents of 16 x 16.
        variance_floor: Least variance, at least 0. A few elites make the variance collapse, so raise it where there are
            more than five generations.

    Raises:
        ValueError: A number is outside its range, or the latents can't be halved so often.
    """

    popsize: int = at_least(2, default=10)
    generations: int = at_least(1, default=3)
    elites: int = at_least(2, default=5)
    level: int = at_least(1, default=4)
    variance_floor: float = at_least(0, default=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.elites > self.popsize:
            raise ValueError(f"elites is {self.elites}: give at most popsize, {self.popsize}")

    @property
    def least_side(self) -> int:
        """See :attr:`Sampler.least_side`."""
        return 2**self.level

    @property
    def batches(self) -> int:
        """See :attr:`NoiseSearch.batches`."""
        return self.generations

    def proposals(self, archive: Archive, noise: NoiseSource) -> Iterator[Tensor]:
        """See :meth:`NoiseSearch.proposals`."""
        low, high = haar(noise.start(), self.level)
        mean, variance = torch.zeros_like(low).unsqueeze(0), torch.ones_like(low).unsqueeze(0)
        for generation in range(self.generations):
            if generation:
                # The order of the elites must not matter to the last bit: preferences with the same ones share.
                elites = archive.values().topk(self.elites).indices.sort(1).values
                mean, variance = moments(haar(archive.starts[elites], self.level)[0], self.variance_floor)
            drawn, _ = haar(noise.normal(self.popsize, "generation", generation), self.level)
            yield inverse_haar(mean.unsqueeze(1) + variance.sqrt().unsqueeze(1) * drawn, high).flatten(0, 1)


def moments(elites: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """Return the mean and the variance (P, *shape) of E elites (P, E, *shape), the variance unbiased and not below."""
    return elites.mean(1), (elites.var(1, correction=1) + JITTER).clamp_min(floor)
