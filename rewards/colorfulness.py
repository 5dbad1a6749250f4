"""Colourfulness as people see it, from the spread and the mean of two opponent colour channels."""

from __future__ import annotations

import torch
from torch import Tensor

from rewards.base import Reward, at_least_float32, require_batch


def colorfulness(images: Tensor) -> Tensor:
    """Colourfulness of each image, 0 for grey ones.

    Hasler and Suesstrunk 2003, "Measuring colourfulness in natural images", metric M3, on the 0..255 scale:
    ``sqrt(var(rg) + var(yb)) + 0.3 sqrt(mean(rg)^2 + mean(yb)^2)`` with ``rg = R - G`` and ``yb = (R + G) / 2 - B``.
    Gradients are finite everywhere, on grey and one-coloured images too.

    Args:
        images: ``(B, 3, H, W)`` floats in ``[0, 1]``.

    Returns:
        ``(B,)`` values of at least 0, in the images' precision but at least float32.
    """
    red, green, blue = (255 * at_least_float32(images)).flatten(2).unbind(1)
    opponents = torch.stack([red - green, (red + green) / 2 - blue], dim=1)  # (B, 2, H * W)
    mean = opponents.mean(2, keepdim=True)
    # vector_norm, unlike sqrt, has the gradient 0 at 0.
    spread: Tensor = torch.linalg.vector_norm(opponents - mean, dim=(1, 2)) / opponents.shape[2] ** 0.5
    offset: Tensor = torch.linalg.vector_norm(mean, dim=(1, 2))
    return spread + 0.3 * offset


class Colorfulness(Reward):
    """Colourfulness of Hasler and Suesstrunk 2003, see :func:`colorfulness`.

    The paper's words for the values: 0 not, 15 slightly, 33 moderately, 45 averagely, 59 quite, 82 highly and
    109 extremely colourful. The prompt plays no role; gradients reach the pixels.

    Example:
        >>> import torch
        >>> grey, red = torch.full((3, 8, 8), 0.5), torch.tensor([1.0, 0, 0]).view(3, 1, 1).expand(3, 8, 8)
        >>> Colorfulness().score(torch.stack([grey, red]), ["", ""])
        tensor([ 0.0000, 85.5296])
    """

    is_differentiable = True

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Score ``(B, 3, H, W)`` images in ``[0, 1]`` as ``(B,)`` float32 values of at least 0.

        Raises:
            TypeError, ValueError: See :func:`rewards.base.require_batch`.
        """
        require_batch(images, prompts)
        return colorfulness(images).float()
