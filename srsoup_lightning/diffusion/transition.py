"""One reverse step ``x_{t-1} ~ N(mean, sigma^2 I)``, from the network's prediction at ``x_t``.

Levels run from 0, the noisiest, to T, the cleanest; step i goes from level i to level i + 1.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

PredictionType = Literal["epsilon", "sample", "v_prediction"]


class Prediction(NamedTuple):
    """What the network thinks a noisy latent is made of, both (B, C, H, W)."""

    x0: Tensor
    noise: Tensor


class Transition(NamedTuple):
    """The Gaussian of one reverse step."""

    mean: Tensor  # (B, C, H, W)
    sigma: float


class Shares(NamedTuple):
    """What a latent of a level is made of: ``signal * x0 + noise * epsilon``."""

    signal: float
    noise: float


class Kernel(abc.ABC):
    """The reverse transitions of a whole schedule."""

    @property
    @abc.abstractmethod
    def steps(self) -> int:
        """The number T of denoising steps."""

    @abc.abstractmethod
    def sigma(self, step: int) -> float:
        """Standard deviation of step `step`, in 0 ... T - 1; 0 where the step is deterministic."""

    @abc.abstractmethod
    def shares(self, level: int) -> Shares:
        """What latents of level 0 ... T are made of."""

    def mean(self, step: int, x: Tensor, prediction: Prediction) -> Tensor:
        """Mean (B, C, H, W) of step `step` from the latents x (B, C, H, W) and the prediction at them.

        The next level's shares of signal and noise, less the noise that is drawn anew: DDIM's, of whatever shares.
        """
        signal, noise = self.shares(step + 1)
        kept = max(noise**2 - self.sigma(step) ** 2, 0.0) ** 0.5
        return signal * prediction.x0 + kept * prediction.noise

    def clean(self, level: int, x: Tensor, noise: Tensor) -> Tensor:
        """The clean latents (B, C, H, W) that x (B, C, H, W) of level 0 ... T holds if `noise` is the noise in it.

        Raises:
            ValueError: A level without signal.
        """
        shares = self.shares(level)
        if shares.signal == 0:
            raise ValueError(f"level {level} has no signal: no clean latent can be told from its noise")
        return (x - shares.noise * noise) / shares.signal

    def transition(self, step: int, x: Tensor, prediction: Prediction) -> Transition:
        """Mean and standard deviation of step `step`."""
        return Transition(self.mean(step, x, prediction), self.sigma(step))


@dataclass(frozen=True)
class DDIM(Kernel):
    """DDIM with eta: 0 is deterministic, 1 has the variance of DDPM.

    Song et al. 2021, arXiv:2010.02502, equations 12 (mean) and 16 (sigma).

    Args:
        alphas: Cumulative signal power (no unit) of the T + 1 levels, in [0, 1], never falling; only the first 0.
        eta: Share of the noise that is drawn anew, in [0, 1].

    Raises:
        ValueError: Fewer than two levels, levels that fall, or eta outside [0, 1].
    """

    alphas: tuple[float, ...]
    eta: float

    def __post_init__(self) -> None:
        if len(self.alphas) < 2 or self.alphas[-1] > 1 or any(b < a for a, b in pairwise(self.alphas)):
            raise ValueError(f"signal power {self.alphas} must not fall, nor pass 1, over at least two levels")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is {self.eta}: give a number in [0, 1], 0 for deterministic DDIM")

    @property
    def steps(self) -> int:
        """The number T of denoising steps."""
        return len(self.alphas) - 1

    def sigma(self, step: int) -> float:
        """See :meth:`Kernel.sigma`."""
        here, there = self.alphas[step], self.alphas[step + 1]
        variance = (1 - there) / (1 - here) * (1 - here / there)
        return self.eta * variance**0.5

    def shares(self, level: int) -> Shares:
        """See :meth:`Kernel.shares`."""
        return Shares(self.alphas[level] ** 0.5, (1 - self.alphas[level]) ** 0.5)


class Renoising(DDIM):
    """Multistep sampling of consistency models: to the clean latent, then back with fresh noise.

    Song et al. 2023, arXiv:2303.01469, algorithm 1. At eta 1 all noise is drawn anew; below, the rest is the
    predicted one.
    """

    def sigma(self, step: int) -> float:
        """See :meth:`Kernel.sigma`."""
        return self.eta * (1 - self.alphas[step + 1]) ** 0.5


def predict(output: Tensor, x: Tensor, alpha: float, prediction_type: PredictionType) -> Prediction:
    """The clean latent and the noise that a network's output stands for.

    Args:
        output: The network's output at x, (B, C, H, W).
        x: Noisy latents ``sqrt(alpha) x0 + sqrt(1 - alpha) noise``, (B, C, H, W).
        alpha: Cumulative signal power of x's level, in [0, 1]; above 0 for "epsilon".
        prediction_type: What the network predicts: the noise "epsilon" (Ho et al. 2020), the clean "sample", or the
            velocity "v_prediction" (Salimans & Ho 2022, arXiv:2202.00512, appendix D).

    Raises:
        ValueError: An unknown type, or noise prediction where there is no signal.
    """
    signal, spread = alpha**0.5, (1 - alpha) ** 0.5
    if prediction_type == "epsilon":
        if alpha == 0:
            raise ValueError("a level without signal can't be predicted from its noise: use v_prediction or sample")
        return Prediction((x - spread * output) / signal, output)
    if prediction_type == "sample":
        return Prediction(output, (x - signal * output) / spread)
    if prediction_type == "v_prediction":
        return Prediction(signal * x - spread * output, signal * output + spread * x)
    raise ValueError(
        f"prediction type {prediction_type!r} is unknown: choose from {', '.join(get_args(PredictionType))}"
    )


def dynamic_threshold(x0: Tensor, quantile: float, maximum: float) -> Tensor:
    """Clean samples (B, C, H, W) clamped to their own quantile of magnitude, then divided by it.

    Saharia et al. 2022 (Imagen), arXiv:2205.11487, section 2.3.

    Args:
        x0: Predicted clean samples.
        quantile: Which quantile of ``|x0|`` is the threshold, in (0, 1].
        maximum: The threshold lies in [1, maximum].
    """
    magnitude = torch.quantile(x0.abs().flatten(1), quantile, dim=1).clamp(1, maximum).view(-1, 1, 1, 1)
    return x0.clamp(-magnitude, magnitude) / magnitude
