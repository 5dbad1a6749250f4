"""RMS contrast: the spread of light and dark."""

from __future__ import annotations

from torch import Tensor

from rewards.base import Reward, require_batch
from rewards.functional import contrast


class Contrast(Reward):
    """RMS contrast of Peli 1990, see :func:`rewards.functional.contrast`.

    Values lie in ``[0, 0.5]``: flat images have 0, images half black and half white 0.5, white noise in each channel
    0.22, nine in ten pictures of tiny-animals 0.06 to 0.17. The places of the light and dark parts play no role, and
    neither does the prompt. Gradients reach the pixels.

    Example:
        >>> import torch
        >>> flat, halves = torch.full((3, 8, 8), 0.5), torch.tensor([0.0, 1.0]).repeat(3, 8, 4)
        >>> Contrast().score(torch.stack([flat, halves]), ["", ""])
        tensor([0.0000, 0.5000])
    """

    is_differentiable = True

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Score ``(B, 3, H, W)`` images in ``[0, 1]`` as ``(B,)`` float32 values in ``[0, 0.5]``.

        Raises:
            TypeError, ValueError: See :func:`rewards.base.require_batch`.
        """
        require_batch(images, prompts)
        return contrast(images).float()
