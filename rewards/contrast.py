"""RMS contrast: how far light and dark are apart."""

from __future__ import annotations

import torch
from torch import Tensor

from rewards.base import Reward, require_batch
from rewards.luma import luma


def contrast(images: Tensor) -> Tensor:
    """Standard deviation of each image's luma.

    The RMS contrast of Peli 1990, "Contrast in complex images", JOSA A 7(10), 2032-2040, over grey levels in
    ``[0, 1]``, with the number of pixels as divisor, so that images of one pixel have a contrast too. Gradients are
    finite everywhere, on flat images too.

    Args:
        images: ``(B, 3, H, W)`` floats in ``[0, 1]``.

    Returns:
        ``(B,)`` values in ``[0, 0.5]``, in the images' precision but at least float32.
    """
    grey = luma(images).flatten(1)
    # vector_norm, unlike std, has the gradient 0 at 0.
    spread: Tensor = torch.linalg.vector_norm(grey - grey.mean(1, keepdim=True), dim=1)
    return spread / grey.shape[1] ** 0.5


class Contrast(Reward):
    """RMS contrast of Peli 1990, see :func:`contrast`.

    Values lie in ``[0, 0.5]``: flat images have 0, those half black and half white 0.5, white noise in each channel
    0.22, nine in ten pictures of tiny-animals 0.06 to 0.17. Where the light and the dark parts are plays no role, nor
    does the prompt. Gradients reach the pixels.

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
