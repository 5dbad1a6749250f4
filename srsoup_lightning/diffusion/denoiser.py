"""A model with its prompt, guidance and schedule bound: all that a sampler's problem needs of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from srsoup_lightning.diffusion.transition import Kernel, Prediction


@dataclass(frozen=True, kw_only=True)
class Denoiser:
    """One prompt's denoising process.

    Attributes:
        shape: A latent's shape, (C, H, W).
        kernel: The reverse transitions.
        denoise: Latents (B, C, H, W) at level i in 0 ... T - 1, and i, to the prediction at them, in float32.
        denoise_unguided: The same without classifier-free guidance, at one network evaluation a latent.
        decode: Clean latents (B, C, H, W) to images (B, 3, height, width) in [0, 1], float32.
        decode_preview: The same for pictures that only rewards see: a cheaper decoder where the user has one.
        evaluations: Network evaluations that one prediction costs a latent: 2 under classifier-free guidance.
        device: Where the latents live.
    """

    shape: tuple[int, ...]
    kernel: Kernel
    denoise: Callable[[Tensor, int], Prediction]
    denoise_unguided: Callable[[Tensor, int], Prediction]
    decode: Callable[[Tensor], Tensor]
    decode_preview: Callable[[Tensor], Tensor]
    evaluations: int
    device: torch.device
