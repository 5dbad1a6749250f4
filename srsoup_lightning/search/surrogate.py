"""A surrogate of the rewards: what answers already paid for say about candidates that nobody asked about.

A Gaussian process over the clean latents that candidates are heading for, one a reward, common to all trajectories and
to the last few steps. Its equations are those of Rasmussen and Williams 2006, Gaussian Processes for Machine Learning.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

LENGTHS = (1.0, 3.0, 10.0, 30.0)  # squared length scales, in the mean squared distance of two candidates
NOISES = (0.003, 0.03, 0.3)  # variances, in the reward's own


@dataclass(frozen=True)
class Surrogate:
    """Preview more candidates than are asked about, and predict the rewards of the others.

    A preview that nobody is asked about costs network evaluations, but neither a decode nor a query: the trade for
    rewards that are dear.

    Args:
        previews: How many candidates each trajectory previews in a step, at least 2; where it asks about more, that
            many.
        window: From how many of the last steps answers are remembered, at least 1.

    Raises:
        ValueError: A number outside its range.
    """

    previews: int = 16
    window: int = 8

    def __post_init__(self) -> None:
        if self.previews < 2:
            raise ValueError(f"previews is {self.previews}: a search gradient compares at least 2 candidates")
        if self.window < 1:
            raise ValueError(f"window is {self.window}: give at least 1, the current step")


class Fit(NamedTuple):
    """A Gaussian process given its data.

    Attributes:
        length: Squared length scale of the kernel.
        weights: What each of the n answers adds to a prediction, times its kernel, (n,) float64.
        log_likelihood: Of the data, but for a constant.
    """

    length: float
    weights: Tensor
    log_likelihood: float


class GaussianProcess:
    """What one soup knows about one reward.

    Args:
        window: From how many of the last steps answers are remembered.
    """

    def __init__(self, window: int) -> None:
        self._latents: deque[Tensor] = deque(maxlen=window)
        self._rewards: deque[Tensor] = deque(maxlen=window)

    def learn(self, latents: Tensor, rewards: Tensor) -> None:
        """Remember a step's answers.

        Args:
            latents: Clean latents that were asked about, (n, *shape), n may be 0.
            rewards: The answers, (n,).
        """
        self._latents.append(latents.flatten(1))
        self._rewards.append(rewards.cpu().double())

    def predict(self, latents: Tensor, spread: float) -> Tensor:
        """The posterior mean of the reward, (...,) float32: the mean of the last answers where nothing can be told.

        The mean of each step's answers is taken off before all are compared, for previews sharpen from step to step
        and shift a reward as a whole. Length scale and noise are those of the largest marginal likelihood.

        Args:
            latents: Clean latents, (..., C, H, W).
            spread: Mean squared difference, a number of the latent, of two candidates of one trajectory.
        """
        answered = [answers for answers in self._rewards if len(answers)]
        mean = float(answered[-1].mean()) if answered else 0.0
        predictions = latents.new_full(latents.shape[:-3], mean, dtype=torch.float32)
        centred = torch.cat([answers - answers.mean() for answers in answered]) if answered else torch.zeros(0)
        scale = float(centred.std()) if len(centred) > 1 else 0.0
        if scale == 0 or spread == 0:
            return predictions
        known, queried = torch.cat(list(self._latents)), latents.flatten(0, -4).flatten(1)
        distances = squared_distances(known, known).cpu().double()
        fits = (fit(distances, centred / scale, length * spread, noise) for length in LENGTHS for noise in NOISES)
        best = max(fits, key=lambda each: each.log_likelihood)
        kernel = rational_quadratic(squared_distances(queried, known).cpu().double(), best.length)
        return predictions + (scale * kernel @ best.weights).to(predictions).view_as(predictions)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of every two of a (A, d) and b (B, d), (A, B)."""
    centre = b.mean(0)  # so that what is subtracted below is small beside float32's precision
    a, b = a - centre, b - centre
    squares = a.square().sum(1).unsqueeze(1) + b.square().sum(1) - 2 * a @ b.T
    return squares.clamp_min(0) / a.shape[1]


def rational_quadratic(squared_distance: Tensor, length: float) -> Tensor:
    """The kernel ``1 / (1 + r^2 / (2 length))``, eq. 4.19 with alpha = 1: a mixture of all length scales about one."""
    return 1 / (1 + squared_distance / (2 * length))


def fit(squared_distance: Tensor, rewards: Tensor, length: float, noise: float) -> Fit:
    """Condition on the answers, eq. 2.25 and 2.30; the kernel's variance is the likeliest one.

    Args:
        squared_distance: Between every two answers' latents, (n, n) float64.
        rewards: The answers, (n,) float64.
        length: Squared length scale, above 0.
        noise: Variance of an answer's noise, in the kernel's variance, above 0.
    """
    gram = rational_quadratic(squared_distance, length)
    gram.diagonal().add_(noise)
    root = torch.linalg.cholesky(gram)
    weights = torch.cholesky_solve(rewards.unsqueeze(1), root).squeeze(1)
    variance = (rewards @ weights) / len(rewards)
    log_likelihood = -0.5 * len(rewards) * variance.log() - root.diagonal().log().sum()
    return Fit(length, weights, float(log_likelihood))
