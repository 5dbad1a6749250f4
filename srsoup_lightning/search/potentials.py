"""Weights of particles by potentials, in log space, and the lineages that resampling makes of them."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from srsoup_lightning.search.resampling import Resampler, effective_sample_size, resample

Tempering = Literal["constant", "increasing", "polynomial", "adaptive", "infinite"]
PotentialKind = Literal["current", "difference", "max", "sum"]
FULL = 0.87  # share of the steps after which rising schedules are at their end, as in the code of DAS
HALVINGS = 30  # of the interval in which an adaptive temperature is sought


class Potential(NamedTuple):
    """Potential G that multiplies the weight of a particle at a scoring.

    Attributes:
        kind: With the value r of a particle's preview and the inverse temperature ``lambda_t``, ``log G`` is ``lambda_t
            r`` ("current"), ``lambda_t r - lambda_s r_s`` against the scoring before ("difference"), or ``lambda_t``
            times the highest value ("max") or the sum of all values ("sum") up to now.
        tempering: ``lambda_t`` is "constant"; or "increasing" with the share u of the steps that are done, ``lambda
            min(2^(u / 0.87) - 1, 1)``, which is the schedule of DAS (Kim et al. 2025, arXiv:2501.05803) for any number
            of steps; or "polynomial", ``lambda min((u / 0.87)^2, 1)``; or "adaptive", the largest value up to lambda
            that is not below the one before and keeps the effective sample size at a share of K, for "difference"
            alone; or "infinite", so that the best particle alone has weight.
        inverse_temperature: lambda, at least 0.
        ess_share: Share of K that "adaptive" keeps, in (0, 1).
    """

    kind: PotentialKind
    tempering: Tempering
    inverse_temperature: float
    ess_share: float = 0.5

    def strength(self, share: float) -> float:
        """Return lambda_t after this share of the steps, in [0, 1]. For "adaptive", this is the largest value."""
        if self.tempering == "increasing":
            return self.inverse_temperature * min(2 ** (share / FULL) - 1, 1.0)
        if self.tempering == "polynomial":
            return self.inverse_temperature * min((share / FULL) ** 2, 1.0)
        return self.inverse_temperature


class Lineages:
    """K weighted particles for each of P preferences. All tensors are (P, K), in float64.

    Args:
        shape: (P, K).
        potential: Potential at each scoring.
        device: Device of the weights.

    Attributes:
        log_weights: Log-weights since the last resampling, up to a constant.
        spent: Logarithm of the product of the potentials along each lineage.
        roots: Index of the first ancestor of each particle.
    """

    def __init__(self, shape: tuple[int, int], potential: Potential, device: torch.device) -> None:
        self.potential = potential
        self.log_weights = torch.zeros(shape, dtype=torch.float64, device=device)
        self.spent = self._target = self.log_weights
        self._score = torch.full_like(self.spent, -torch.inf) if potential.kind == "max" else self.spent
        self.roots = torch.arange(shape[1], device=device).expand(shape)
        self._adapted = torch.zeros(shape[0], 1, dtype=torch.float64, device=device)

    def strength(self, share: float) -> Tensor:
        """Return lambda_t of each preference after a share of the steps, (P, 1): an adaptive one is that of now."""
        adaptive = self.potential.tempering == "adaptive"
        return self._adapted if adaptive else torch.full_like(self._adapted, self.potential.strength(share))

    def correct(self, log_ratios: Tensor) -> None:
        """Multiply the weights by ratios of the model's density to that of a proposal, by their logarithms (P, K)."""
        self.log_weights = self.log_weights + log_ratios.double()

    def weigh(self, values: Tensor, share: float) -> None:
        """Multiply the weights by the potential of previews with these values (P, K), after a share of the steps."""
        kind, values = self.potential.kind, values.double()
        before, self._score = self._score, values
        if kind == "max":
            self._score = torch.maximum(before, values)
        elif kind == "sum":
            self._score = before + values
        if self.potential.tempering == "infinite":
            self.log_weights = _best_alone(self._score - before if kind == "difference" else self._score)
            return
        if self.potential.tempering == "adaptive":
            self._adapt()
        target = self.strength(share) * self._score
        change = target - self._target if kind == "difference" else target
        self._target, self.spent, self.log_weights = target, self.spent + change, self.log_weights + change

    def _adapt(self) -> None:
        """Raise the adaptive inverse temperatures as far as the effective sample sizes let them, by bisection."""
        low, high = self._adapted, torch.full_like(self._adapted, self.potential.inverse_temperature)
        least = self.potential.ess_share * self._score.shape[1]
        middle = high  # is tried first
        for _ in range(HALVINGS):
            weights = self.log_weights + middle * self._score - self._target
            enough = effective_sample_size(weights).unsqueeze(1) >= least
            low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
            middle = (low + high) / 2
        self._adapted = low

    def finish(self, values: Tensor) -> None:
        """Multiply the weights by the last potential, which makes the product along a lineage ``exp(lambda r)``.

        Args:
            values: Values r of the final latents, (P, K).
        """
        if self.potential.tempering == "infinite":
            self.log_weights = _best_alone(values.double())
        else:
            self.log_weights = self.log_weights + self.potential.inverse_temperature * values - self.spent

    def effective_sample_size(self) -> Tensor:
        """Return the effective sample size of each preference's weights, (P,)."""
        return effective_sample_size(self.log_weights)

    def survivors(self) -> Tensor:
        """Return how many of the first particles have descendants, (P,)."""
        return torch.tensor([len(row.unique()) for row in self.roots], dtype=torch.int64, device=self.roots.device)

    def resample(self, uniform: Tensor, resampler: Resampler, threshold: float = 1.0) -> Tensor:
        """Resample where the effective sample size is at most a share of K; elsewhere, weights are kept.

        Args:
            uniform: Uniform numbers (K,), the same for all preferences.
            resampler: See :func:`~srsoup_lightning.search.resampling.resample`.
            threshold: Share of K, in (0, 1].

        Returns:
            Ancestors (P, K).
        """
        count = self.log_weights.shape[1]
        own, uneven = torch.arange(count, device=uniform.device), self.effective_sample_size() <= threshold * count
        ancestors = torch.stack(
            [
                resample(weights, uniform, resampler) if resampled else own
                for weights, resampled in zip(self.log_weights, uneven.tolist(), strict=True)
            ]
        )
        self.log_weights = torch.where(uneven.unsqueeze(1), 0.0, self.log_weights)
        for name in ("spent", "_target", "_score", "roots"):
            setattr(self, name, getattr(self, name).gather(1, ancestors))
        return ancestors


def _best_alone(score: Tensor) -> Tensor:
    """Log-weights (P, K) that are 0 for the highest scores and minus infinity for all others."""
    return torch.where(score == score.amax(1, keepdim=True), 0.0, -torch.inf).double()
