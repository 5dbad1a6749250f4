"""Brightness: how light an image is on average, or how near to a lightness that is wanted."""

from __future__ import annotations

from torch import Tensor

from rewards.base import Reward, require_batch
from rewards.luma import luma


def brightness(images: Tensor) -> Tensor:
    """Mean luma of each image, from 0 (black) to 1 (white).

    Args:
        images: ``(B, 3, H, W)`` floats in ``[0, 1]``.

    Returns:
        ``(B,)`` values in ``[0, 1]``, in the images' precision but at least float32.
    """
    return luma(images).mean((1, 2))


class Brightness(Reward):
    """Mean Rec. 709 luma, see :func:`rewards.luma.luma`; with a target, minus the distance to it.

    Values lie in ``[0, 1]``, for nine in ten pictures of tiny-animals in ``[0.35, 0.62]``; with a target they lie in
    ``[-1, 0]``. Luma and not linear light, because it follows lightness as people see it. Without a target it leads to
    white pictures. The prompt plays no role; gradients reach the pixels.

    Args:
        target: The mean luma wanted, from 0 to 1; None for as bright as can be.

    Raises:
        ValueError: If the target is outside ``[0, 1]``.

    Example:
        >>> import torch
        >>> greys = torch.tensor([0.25, 0.75]).view(2, 1, 1, 1).expand(2, 3, 8, 8)
        >>> Brightness().score(greys, ["", ""])
        tensor([0.2500, 0.7500])
        >>> Brightness(target=0.5).score(greys, ["", ""])
        tensor([-0.2500, -0.2500])
    """

    is_differentiable = True

    def __init__(self, target: float | None = None) -> None:
        super().__init__()
        if target is not None and not 0 <= target <= 1:
            raise ValueError(f"target is {target}: give a mean luma from 0 (black) to 1 (white), or None.")
        self.target = target

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Score ``(B, 3, H, W)`` images in ``[0, 1]`` as ``(B,)`` float32 values; the class says the range.

        Raises:
            TypeError, ValueError: See :func:`rewards.base.require_batch`.
        """
        require_batch(images, prompts)
        mean = brightness(images)
        return (mean if self.target is None else -(mean - self.target).abs()).float()
