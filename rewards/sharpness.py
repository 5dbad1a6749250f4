"""Sharpness as autofocus measures it: the variance of the Laplacian."""

from __future__ import annotations

from torch import Tensor

from rewards.base import Reward, require_batch
from rewards.functional import sharpness


class Sharpness(Reward):
    """Variance of the Laplacian, see :func:`rewards.functional.sharpness`.

    Values are 0 for flat images. They grow with contrast and fine detail, and so with noise: 190 to 1700 for nine in
    ten pictures of tiny-animals, 61000 for white noise. Gentle slopes, as in a sky, add nothing inside the image: that
    is why this measure is used and not the squared gradient (Tenengrad). Compare only images of one size. Alone it
    leads to noise. The prompt plays no role. Gradients reach the pixels.

    Example:
        >>> import torch
        >>> flat, stripes = torch.full((3, 8, 8), 0.5), torch.tensor([0.0, 1.0]).repeat(3, 8, 4)
        >>> Sharpness().score(torch.stack([flat, stripes]), ["", ""]).round()
        tensor([     0., 260100.])
    """

    is_differentiable = True

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Score ``(B, 3, H, W)`` images in ``[0, 1]`` as ``(B,)`` float32 values of at least 0.

        Raises:
            TypeError, ValueError: See :func:`rewards.base.require_batch` and :func:`rewards.functional.sharpness`.
        """
        require_batch(images, prompts)
        return sharpness(images).float()
