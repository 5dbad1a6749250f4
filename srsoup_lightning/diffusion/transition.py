"""One reverse step ``x_{t-1} ~ N(mean, sigma^2 I)``, from the prediction of the network at ``x_t``.

Levels run from 0, the noisiest, to T, the cleanest. Step i goes from level i to level i + 1.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rewards.checks import require_choice

PredictionType = Literal["epsilon", "sample", "v_prediction"]


class Prediction(NamedTuple):
    """Clean latent and noise that the network predicts in a noisy latent, both (B, C, H, W)."""

    x0: Tensor
    noise: Tensor


class Transition(NamedTuple):
    """Gaussian of one reverse step."""

    mean: Tensor  # (B, C, H, W)
    sigma: float

    def draw(self, z: Tensor) -> Tensor:
        """Return the latents (B, C, H, W) at standard normal noise z, which is broadcast to that shape."""
        return self.mean + self.sigma * z

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density (B,) at latents x (B, C, H, W), as the MEAN over the d numbers of a latent.

        ``-(x - mean)^2 / (2 sigma^2) - log sigma - log(2 pi) / 2``: the density of the Gaussian itself. Its sum over
        the numbers of a latent is d times this.

        Raises:
            ValueError: Sigma is 0, so there is no density.
        """
        if self.sigma == 0:
            raise ValueError(
                "sigma is 0: a deterministic step has no density. Give eta above 0, leave out the last step of a "
                "schedule that ends without noise, or take the transition of FlowSDE for a flow"
            )
        deviation = (x - self.mean) / self.sigma
        constant = math.log(self.sigma) + 0.5 * math.log(2 * math.pi)
        return -0.5 * deviation.square().flatten(1).mean(1) - constant


class Shares(NamedTuple):
    """Composition of a latent of a level: ``signal * x0 + noise * epsilon``."""

    signal: float
    noise: float


class Kernel(abc.ABC):
    """Reverse transitions of a whole schedule."""

    @property
    @abc.abstractmethod
    def steps(self) -> int:
        """Number T of denoising steps."""

    @abc.abstractmethod
    def sigma(self, step: int) -> float:
        """Return the standard deviation of step `step`, in 0 ... T - 1. A deterministic step has 0."""

    @abc.abstractmethod
    def shares(self, level: int) -> Shares:
        """Return the composition of latents of level 0 ... T."""

    @abc.abstractmethod
    def deterministic(self) -> Kernel:
        """Return the kernel of the same levels without fresh noise: DDIM with eta 0, or the plain flow."""

    def mean(self, step: int, x: Tensor, prediction: Prediction) -> Tensor:
        """Return the mean (B, C, H, W) of step `step` from latents x (B, C, H, W) and the prediction at them.

        It has the signal of the next level, and the noise of the next level less the noise that is drawn anew. For
        the shares of a diffusion this is DDIM (Song et al. 2021, arXiv:2010.02502, equation 12).
        """
        signal, noise = self.shares(step + 1)
        kept = max(noise**2 - self.sigma(step) ** 2, 0.0) ** 0.5
        return signal * prediction.x0 + kept * prediction.noise

    def clean(self, level: int, x: Tensor, noise: Tensor) -> Tensor:
        """Return the clean latents (B, C, H, W) in latents x (B, C, H, W) of level 0 ... T, given the noise in them.

        Raises:
            ValueError: The level has no signal.
        """
        shares = self.shares(level)
        if shares.signal == 0:
            raise ValueError(f"level {level} has no signal: no clean latent can be told from its noise")
        return (x - shares.noise * noise) / shares.signal

    def jump(self, level: int, prediction: Prediction) -> Tensor:
        """Return latents (B, C, H, W) of level 0 ... T that have the predicted clean latent and the predicted noise.

        This is the deterministic step from any level to any other one, for completions that skip levels.
        """
        signal, noise = self.shares(level)
        return signal * prediction.x0 + noise * prediction.noise

    def renoise(self, level: int, x: Tensor, to: int, z: Tensor) -> Tensor:
        """Return latents of a noisier level `to`, by the forward process from latents x (B, C, H, W) of `level`.

        ``x_to = a x + sqrt(noise_to^2 - a^2 noise^2) z`` with ``a = signal_to / signal``: the marginal of level `to` is
        kept where x has that of `level`.

        Args:
            level: Level of x, in 0 ... T.
            x: Latents of that level.
            to: Level to go back to, at most `level`.
            z: Standard normal noise (B, C, H, W).

        Raises:
            ValueError: `to` is a cleaner level than `level`, or `level` has no signal.
        """
        if to > level:
            raise ValueError(f"level {to} is cleaner than level {level}: renoise to a level of at most {level}")
        here, there = self.shares(level), self.shares(to)
        if here.signal == 0:
            raise ValueError(f"level {level} has no signal: its latents are noise already")
        scale = there.signal / here.signal
        return scale * x + max(there.noise**2 - (scale * here.noise) ** 2, 0.0) ** 0.5 * z

    def transition(self, step: int, x: Tensor, prediction: Prediction) -> Transition:
        """Return the Gaussian of step `step` from latents x (B, C, H, W) and the prediction at them."""
        return Transition(self.mean(step, x, prediction), self.sigma(step))


@dataclass(frozen=True)
class DDIM(Kernel):
    """DDIM with eta. 0 is deterministic, and 1 has the variance of DDPM.

    Song et al. 2021, arXiv:2010.02502, equations 12 (mean) and 16 (sigma).

    Args:
        alphas: Cumulative signal power (no unit) of the T + 1 levels, in [0, 1]. It never falls, and only the first may
            be 0.
        eta: Share of the noise that is drawn anew, in [0, 1].

    Raises:
        ValueError: There are fewer than two levels, levels fall, or eta is outside [0, 1].
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
        """See :attr:`Kernel.steps`."""
        return len(self.alphas) - 1

    def sigma(self, step: int) -> float:
        """See :meth:`Kernel.sigma`."""
        here, there = self.alphas[step], self.alphas[step + 1]
        variance = (1 - there) / (1 - here) * (1 - here / there)
        return self.eta * variance**0.5

    def shares(self, level: int) -> Shares:
        """See :meth:`Kernel.shares`."""
        return Shares(self.alphas[level] ** 0.5, (1 - self.alphas[level]) ** 0.5)

    def deterministic(self) -> Kernel:
        """See :meth:`Kernel.deterministic`."""
        return DDIM(self.alphas, 0.0)


class Renoising(DDIM):
    """Multistep sampling of consistency models: a step to the clean latent, and back with fresh noise.

    Song et al. 2023, arXiv:2303.01469, algorithm 1. At eta 1 all noise is drawn anew. Below 1, the rest is the
    predicted noise.
    """

    def sigma(self, step: int) -> float:
        """See :meth:`Kernel.sigma`."""
        return self.eta * (1 - self.alphas[step + 1]) ** 0.5


def prediction_of(output: Tensor, x: Tensor, alpha: float, prediction_type: PredictionType) -> Prediction:
    """Convert the output of a network to a clean latent and noise.

    Args:
        output: The network's output at x, (B, C, H, W).
        x: Noisy latents ``sqrt(alpha) x0 + sqrt(1 - alpha) noise``, (B, C, H, W).
        alpha: Cumulative signal power of x's level, in [0, 1]; above 0 for "epsilon".
        prediction_type: Meaning of the output: the noise "epsilon" (Ho et al. 2020), the clean "sample", or the
            velocity "v_prediction" (Salimans & Ho 2022, arXiv:2202.00512, appendix D).

    Raises:
        ValueError: The type is unknown, or the noise is predicted at a level without signal.
    """
    require_choice("prediction_type", prediction_type, PredictionType)
    signal, spread = alpha**0.5, (1 - alpha) ** 0.5
    if prediction_type == "sample":
        return Prediction(output, (x - signal * output) / spread)
    if prediction_type == "v_prediction":
        return Prediction(signal * x - spread * output, signal * output + spread * x)
    if alpha == 0:
        raise ValueError("a level without signal can't be predicted from its noise: use v_prediction or sample")
    return Prediction((x - spread * output) / signal, output)


def dynamic_threshold(x0: Tensor, quantile: float, maximum: float) -> Tensor:
    """Clamp clean samples (B, C, H, W) to a quantile of their own magnitude, and divide them by it.

    Saharia et al. 2022 (Imagen), arXiv:2205.11487, section 2.3.

    Args:
        x0: Predicted clean samples.
        quantile: Quantile of ``|x0|`` that is the threshold, in (0, 1].
        maximum: The threshold lies in [1, maximum].
    """
    magnitude = torch.quantile(x0.abs().flatten(1), quantile, dim=1).clamp(1, maximum).view(-1, 1, 1, 1)
    return x0.clamp(-magnitude, magnitude) / magnitude
