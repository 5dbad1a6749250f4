"""Colourfulness as people see it."""

from __future__ import annotations

from torch import Tensor

from rewards.base import Reward, require_batch
from rewards.functional import colorfulness


class Colorfulness(Reward):
    """Colourfulness of Hasler and Suesstrunk 2003, see :func:`rewards.functional.colorfulness`.

    The paper's words for the values: 0 not, 15 slightly, 33 moderately, 45 averagely, 59 quite, 82 highly and
    109 extremely colourful. The prompt plays no role. Gradients reach the pixels.

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
