"""A Gaussian mixture as a diffusion model: its clean prediction has a closed form, so tests know the answers."""

from __future__ import annotations

import torch
from torch import Tensor

from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.transition import DDIM, Prediction


class GaussianMixture:
    """Data drawn from ``sum_k weights[k] N(centres[k], spread^2 I)``; "images" are the latents themselves, shifted.

    Args:
        centres: Means of the K components, (K, C, H, W); C must be 3 for image rewards.
        spread: Standard deviation of each component, at least 0.
        weights: Share of each component, (K,), summing to 1; None means equal shares.
    """

    def __init__(self, centres: Tensor, spread: float, weights: Tensor | None = None) -> None:
        self.centres, self.spread = centres, spread
        self.weights = (
            torch.full((len(centres),), 1 / len(centres), dtype=torch.float32) if weights is None else weights
        )

    def posterior_mean(self, x: Tensor, alpha: float) -> Tensor:
        """The exact ``E[x0 | x]``, (B, C, H, W), for x = sqrt(alpha) x0 + sqrt(1 - alpha) noise.

        With ``v = alpha spread^2 + 1 - alpha``, component k has posterior weight ~ weights[k] N(x; sqrt(alpha) c_k, v)
        and posterior mean ``c_k + sqrt(alpha) spread^2 / v (x - sqrt(alpha) c_k)``.
        """
        variance = alpha * self.spread**2 + 1 - alpha
        offsets = x.unsqueeze(1) - alpha**0.5 * self.centres  # (B, K, C, H, W)
        log_odds = self.weights.log() - offsets.square().flatten(2).sum(2) / (2 * variance)
        means = self.centres + alpha**0.5 * self.spread**2 / variance * offsets
        return torch.einsum("bk,bk...->b...", log_odds.softmax(1), means)

    def bind(self, num_inference_steps: int, eta: float, final_alpha: float = 1.0) -> Denoiser:
        """The denoising process over evenly spaced angles of signal and noise.

        Args:
            num_inference_steps: The number T of steps.
            eta: DDIM's eta, in [0, 1].
            final_alpha: Signal power of the cleanest level, in (0, 1].
        """
        angles = torch.linspace(0, 1, num_inference_steps + 1, dtype=torch.float64)
        start = 1e-4
        alphas = start + (final_alpha - start) * torch.sin(angles * torch.pi / 2).square()
        kernel = DDIM(tuple(alphas.tolist()), eta)

        def denoise(x: Tensor, level: int) -> Prediction:
            alpha = kernel.alphas[level]
            x0 = self.posterior_mean(x, alpha)
            return Prediction(x0, (x - alpha**0.5 * x0) / (1 - alpha) ** 0.5)

        def decode(latents: Tensor) -> Tensor:
            return (latents / 8 + 0.5).clamp(0, 1)

        def encode(images: Tensor) -> Tensor:
            return (images - 0.5) * 8

        def reschedule(num_inference_steps: int, eta: float) -> Denoiser:
            return self.bind(num_inference_steps, eta, final_alpha)

        return Denoiser(
            shape=tuple(self.centres.shape[1:]),
            kernel=kernel,
            denoise=denoise,
            denoise_unguided=denoise,
            decode=decode,
            decode_preview=decode,
            encode=encode,
            reschedule=reschedule,
            evaluations=1,
            device=self.centres.device,
        )
