"""Mirror symmetry: how well an image correlates with its mirror image."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from rewards.base import Reward, at_least_float32, require_batch

Mirror = Literal["left-right", "top-bottom"]
_FAINT = 1 / 255  # a standard deviation of one 8-bit level


def symmetry(images: Tensor, mirror: Mirror = "left-right") -> Tensor:
    """Correlation of each image with its mirror image, over all pixels and channels.

    With ``x`` the image less each channel's mean and ``x'`` its mirror image: ``mean(x x') / (mean(x^2) + f^2)``. Were
    ``f`` 0 this would be Pearson's coefficient; with ``f`` = 1/255, images without visible contrast have 0, and
    gradients are finite everywhere.

    Args:
        images: ``(B, 3, H, W)`` floats in ``[0, 1]``.
        mirror: Which sides to swap.

    Returns:
        ``(B,)`` values in ``[-1, 1]``, in the images' precision but at least float32.
    """
    precise = at_least_float32(images)
    centred = precise - precise.mean((2, 3), keepdim=True)
    mirrored = centred.flip(3 if mirror == "left-right" else 2)
    return (centred * mirrored).mean((1, 2, 3)) / (centred.square().mean((1, 2, 3)) + _FAINT**2)


class Symmetry(Reward):
    """Correlation with the mirror image, see :func:`symmetry`.

    Values lie in ``[-1, 1]``: 1 for a mirror-symmetric image, about 0 for unrelated halves and for flat images, -1
    where each half is the other's negative, 0.14 to 0.62 for nine in ten pictures of tiny-animals.

    Mayer and Landwehr 2018, "Quantifying visual aesthetics based on processing fluency theory", Psychology of
    Aesthetics, Creativity, and the Arts 12(4), 399-431, correlate the halves too, but take the best of several axes
    near the middle; their R package imagefluency was not compared. A correlation, and not a difference of the halves,
    because fading an image to grey would make the difference smaller.

    The prompt plays no role; gradients reach the pixels.

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
        if mirror not in get_args(Mirror):
            raise ValueError(f"mirror is {mirror!r}: choose one of {', '.join(get_args(Mirror))}.")
        self.mirror = mirror

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Score ``(B, 3, H, W)`` images in ``[0, 1]`` as ``(B,)`` float32 values in ``[-1, 1]``.

        Raises:
            TypeError, ValueError: See :func:`rewards.base.require_batch`.
        """
        require_batch(images, prompts)
        return symmetry(images, self.mirror).float()
