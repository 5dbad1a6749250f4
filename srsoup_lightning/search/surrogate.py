"""Surrogate of the rewards: it predicts the rewards of candidates that nobody asked about from earlier answers.

It is a Gaussian process over clean latents. Each reward has one, which all trajectories and the last few steps share.
The equations are those of Rasmussen and Williams 2006, Gaussian Processes for Machine Learning.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

LENGTHS = (1.0, 3.0, 10.0, 30.0)  # squared length scales, in the mean squared distance of two candidates
NOISES = (0.003, 0.03, 0.3)  # variances, in units of the reward's own variance


@dataclass(frozen=True)
class Surrogate:
    """Preview more candidates than are asked about, and predict the rewards of the others.

    A preview that no reward is asked about costs network evaluations, but no decode and no query. This pays where
    rewards are expensive.

    Args:
        previews: Number of candidates that each trajectory previews in a step, at least 2. Where it asks about more,
            it previews that many.
        window: Number of the last steps whose answers are remembered, at least 1.

    Raises:
        ValueError: A number is outside its range.
    """

    previews: int = 16
    window: int = 8

    def __post_init__(self) -> None:
        if self.previews < 2:
            raise ValueError(f"previews is {self.previews}: a search gradient compares at least 2 candidates")
        if self.window < 1:
            raise ValueError(f"window is {self.window}: give at least 1, the current step")


class Fit(NamedTuple):
    """Gaussian process conditioned on its data.

    Attributes:
        length: Squared length scale of the kernel.
        weights: Weight of each of the n answers in a prediction, beside its kernel, (n,) float64.
        log_likelihood: Log-likelihood of the data, up to a constant.
    """

    length: float
    weights: Tensor
    log_likelihood: float


class GaussianProcess:
    """Knowledge of one soup about one reward.

    Args:
        window: Number of the last steps whose answers are remembered.
    """

    def __init__(self, window: int) -> None:
        self._latents: deque[Tensor] = deque(maxlen=window)
        self._rewards: deque[Tensor] = deque(maxlen=window)

    def learn(self, latents: Tensor, rewards: Tensor) -> None:
        """Remember the answers of a step.

        Args:
            latents: Clean latents that were asked about, (n, *shape). n may be 0.
            rewards: Their rewards, (n,).
        """
        self._latents.append(latents.flatten(1))
        self._rewards.append(rewards.cpu().double())

    def predict(self, latents: Tensor, spread: float) -> Tensor:
        """Return the posterior mean of the reward, (...,) float32, or without knowledge the mean of the last answers.

        The mean of each step's answers is subtracted before they are compared, because previews get sharper from step
        to step, which shifts a reward as a whole. Length scale and noise have the largest marginal likelihood.

        Args:
            latents: Clean latents, (..., C, H, W).
            spread: Mean squared difference of two candidates of one trajectory, for each number of the latent.
        """
        answered = [answers for answers in self._rewards if len(answers)]
        mean = float(answered[-1].mean()) if answered else 0.0
        predictions = latents.new_full(latents.shape[:-3], mean, dtype=torch.float32)
        centred = (
            torch.cat([answers - answers.mean() for answers in answered])
            if answered
            else torch.zeros(0, dtype=torch.float32)
        )
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
    """Return the mean squared difference of every row of a (A, d) and every row of b (B, d), (A, B)."""
    centre = b.mean(0)  # so that what is subtracted below is small beside float32's precision
    a, b = a - centre, b - centre
    squares = a.square().sum(1).unsqueeze(1) + b.square().sum(1) - 2 * a @ b.T
    return squares.clamp_min(0) / a.shape[1]


def rational_quadratic(squared_distance: Tensor, length: float) -> Tensor:
    """Return the kernel ``1 / (1 + r^2 / (2 length))`` of squared distances of any shape: eq. 4.19 with alpha = 1."""
    return 1 / (1 + squared_distance / (2 * length))


def fit(squared_distance: Tensor, rewards: Tensor, length: float, noise: float) -> Fit:
    """Condition a Gaussian process on answers, eq. 2.25 and 2.30. The kernel's variance is the likeliest one.

    Args:
        squared_distance: Squared distances between the latents of every two answers, (n, n) float64.
        rewards: The answers, (n,) float64.
        length: Squared length scale, above 0.
        noise: Variance of the noise of an answer, in units of the kernel's variance, above 0.
    """
    gram = rational_quadratic(squared_distance, length)
    gram.diagonal().add_(noise)
    root = torch.linalg.cholesky(gram)
    weights = torch.cholesky_solve(rewards.unsqueeze(1), root).squeeze(1)
    variance = (rewards @ weights) / len(rewards)
    log_likelihood = -0.5 * len(rewards) * variance.log() - root.diagonal().log().sum()
    return Fit(length, weights, float(log_likelihood))
