"""A model with prompt, guidance and schedule bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from srsoup_lightning.adapters import BoundAdapters
from srsoup_lightning.diffusion.transition import Kernel, Prediction


@dataclass(frozen=True, kw_only=True)
class Denoiser:
    """Denoising process of one prompt.

    Gradients flow through `denoise`, `decode`, `decode_preview` and `encode` wherever gradients are enabled.

    Attributes:
        shape: Shape of a latent, (C, H, W).
        kernel: Reverse transitions between the levels 0 ... T.
        denoise: Maps latents (B, C, H, W) of level i in 0 ... T - 1, and i, to the prediction, in float32.
        denoise_unguided: The same without classifier-free guidance, at one network evaluation a latent.
        decode: Maps clean latents (B, C, H, W) to images (B, 3, height, width) in [0, 1], in float32.
        decode_preview: Maps as `decode` does, for images that only rewards see; a cheaper decoder where the user gave
            one.
        encode: Maps images (B, 3, height, width) in [0, 1] to clean latents (B, C, H, W), in float32. It takes the mode
            of the autoencoder's posterior and draws no random numbers.
        reschedule: Maps a number of denoising steps T and an eta in [0, 1] to a denoiser of the same prompt and
            guidance with that schedule. It does not run the text encoder again.
        evaluations: Network evaluations of one prediction of a latent: 2 under classifier-free guidance, otherwise 1.
        device: Device of the latents.
        adapters: Adapters by which predictions depend on a preference. None where they don't.
    """

    shape: tuple[int, ...]
    kernel: Kernel
    denoise: Callable[[Tensor, int], Prediction]
    denoise_unguided: Callable[[Tensor, int], Prediction]
    decode: Callable[[Tensor], Tensor]
    decode_preview: Callable[[Tensor], Tensor]
    encode: Callable[[Tensor], Tensor]
    reschedule: Callable[[int, float], Denoiser]
    evaluations: int
    device: torch.device
    adapters: BoundAdapters | None = None
