"""Sharpness as autofocus measures it: the variance of the Laplacian."""

from __future__ import annotations

from torch import Tensor, nn

from rewards.base import Reward, require_batch
from rewards.luma import luma


def sharpness(images: Tensor) -> Tensor:
    """Variance over each image of the Laplacian of its luma on the 0..255 scale.

    Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy: a comparative study", ICPR, in the form
    in common use, without their factor 1/6 on the mask: ``var(sum of the four neighbours - 4 x the pixel)``, the image
    mirrored at its outermost pixels. So computes OpenCV's ``Laplacian(grey, CV_64F).var()``, given the same grey; its
    own grey values are Rec. 601's, rounded.

    Args:
        images: ``(B, 3, H, W)`` floats in ``[0, 1]``, at least 2 pixels high and wide.

    Returns:
        ``(B,)`` values of at least 0, in the images' precision but at least float32.

    Raises:
        ValueError: If the images are only one pixel high or wide.
    """
    height, width = images.shape[-2:]
    if min(height, width) < 2:
        raise ValueError(f"images are {height}x{width} pixels: sharpness needs at least 2 each way.")
    grey = nn.functional.pad(255 * luma(images), (1, 1, 1, 1), mode="reflect")
    laplacian = grey.diff(n=2, dim=1)[:, :, 1:-1] + grey.diff(n=2, dim=2)[:, 1:-1]
    return laplacian.flatten(1).var(1, correction=0)


class Sharpness(Reward):
    """Variance of the Laplacian, see :func:`sharpness`.

    Values are 0 for flat images and grow with contrast and fine detail, and so with noise: 190 to 1700 for nine in ten
    pictures of tiny-animals, 61000 for white noise. It is chosen before the squared gradient (Tenengrad) because gentle
    slopes, as in a sky, count nothing inside the image. Compare images of one size only. Alone it leads to noise. The
    prompt plays no role; gradients reach the pixels.

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
            TypeError, ValueError: See :func:`rewards.base.require_batch` and :func:`sharpness`.
        """
        require_batch(images, prompts)
        return sharpness(images).float()
