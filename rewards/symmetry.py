"""Mirror symmetry: the correlation of an image with its mirror image."""

from __future__ import annotations

from torch import Tensor

from rewards.base import Reward, require_batch
from rewards.checks import require_choice
from rewards.functional import Mirror, symmetry


class Symmetry(Reward):
    """Correlation with the mirror image, see :func:`rewards.functional.symmetry`.

    Values lie in ``[-1, 1]``: 1 for a mirror-symmetric image, about 0 for unrelated halves and for flat images, -1
    where each half is the other's negative, 0.14 to 0.62 for nine in ten pictures of tiny-animals.

    Mayer and Landwehr 2018, "Quantifying visual aesthetics based on processing fluency theory", Psychology of
    Aesthetics, Creativity, and the Arts 12(4), 399-431, correlate the halves too, but take the best of several axes
    near the middle. This class was not compared with their R package imagefluency. The measure is a correlation and
    not a difference of the halves, because fading an image to grey would make the difference smaller.

    The prompt plays no role. Gradients reach the pixels.

    Args:
        mirror: "left-right" (the axis is upright) or "top-bottom" (the axis is level).

    Raises:
        ValueError: If the mirror is none of those.

    Example:
        >>> import torch
        >>> arch, ramp = torch.tensor([0.0, 1.0, 1.0, 0.0]).repeat(3, 4, 1), torch.linspace(0, 1, 4).repeat(3, 4, 1)
        >>> Symmetry().score(torch.stack([arch, ramp]), ["", ""])
        tensor([ 0.9999, -0.9999])
    """

    is_differentiable = True

    def __init__(self, mirror: Mirror = "left-right") -> None:
        super().__init__()
        require_choice("mirror", mirror, Mirror)
        self.mirror = mirror

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Score ``(B, 3, H, W)`` images in ``[0, 1]`` as ``(B,)`` float32 values in ``[-1, 1]``.

        Raises:
            TypeError, ValueError: See :func:`rewards.base.require_batch`.
        """
        require_batch(images, prompts)
        return symmetry(images, self.mirror).float()
