"""Brightness: the mean lightness of an image, or its distance to a target."""

from __future__ import annotations

from torch import Tensor

from rewards.base import Reward, require_batch
from rewards.functional import brightness


class Brightness(Reward):
    """Mean Rec. 709 luma, see :func:`rewards.functional.luma`. With a target: minus the distance to it.

    Values lie in ``[0, 1]``, for nine in ten pictures of tiny-animals in ``[0.35, 0.62]``. With a target they lie in
    ``[-1, 0]``. It measures luma and not linear light, because luma follows perceived lightness. Without a target it
    leads to white pictures. The prompt plays no role. Gradients reach the pixels.

    Args:
        target: The wanted mean luma, from 0 to 1; None for as bright as possible.

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
        """Score ``(B, 3, H, W)`` images in ``[0, 1]`` as ``(B,)`` float32 values; the class states their range.

        Raises:
            TypeError, ValueError: See :func:`rewards.base.require_batch`.
        """
        require_batch(images, prompts)
        mean = brightness(images)
        return (mean if self.target is None else -(mean - self.target).abs()).float()
