"""Pure measures of images: tensors in, tensors out. The rewards of the same names wrap them.

All take images ``(B, 3, H, W)`` of floats in ``[0, 1]``. They return ``(B,)`` values on the images' device, in the
images' precision but at least float32, unless they say otherwise. They do not check the range of the images:
:func:`rewards.base.require_images` does.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from rewards.base import at_least_float32
from rewards.checks import require_choice
from rewards.eight_bit import to_eight_bit

__all__ = ["brightness", "colorfulness", "contrast", "jpeg_kilobytes", "luma", "sharpness", "symmetry"]

Mirror = Literal["left-right", "top-bottom"]
Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]

_REC_709 = (0.2126, 0.7152, 0.0722)
_FAINT = 1 / 255  # a standard deviation of one 8-bit level


def luma(images: Tensor) -> Tensor:
    """Rec. 709 luma of each pixel: ``0.2126 R + 0.7152 G + 0.0722 B`` of the stored values.

    The weights are those of ITU-R BT.709, whose primaries sRGB shares. Stored values grow roughly with perceived
    lightness, so middle grey has 0.5. In linear light, from which the weights are derived, it would have 0.21, and
    highlights would dominate.

    Args:
        images: ``(B, 3, H, W)`` floats in ``[0, 1]``, sRGB.

    Returns:
        ``(B, H, W)`` values in ``[0, 1]``, in the images' precision but at least float32.
    """
    precise = at_least_float32(images)
    # A sum and not a product of matrices: autocast would compute that in half precision.
    return (precise * torch.tensor(_REC_709, dtype=precise.dtype, device=precise.device).view(3, 1, 1)).sum(1)


def brightness(images: Tensor) -> Tensor:
    """Mean luma of each image, from 0 (black) to 1 (white).

    Args:
        images: ``(B, 3, H, W)`` floats in ``[0, 1]``.

    Returns:
        ``(B,)`` values in ``[0, 1]``.
    """
    return luma(images).mean((1, 2))


def contrast(images: Tensor) -> Tensor:
    """Standard deviation of each image's luma.

    This is the RMS contrast of Peli 1990, "Contrast in complex images", JOSA A 7(10), 2032-2040, over grey levels in
    ``[0, 1]``. The divisor is the number of pixels, so an image of one pixel has a contrast too. Gradients are finite
    everywhere, on flat images too.

    Args:
        images: ``(B, 3, H, W)`` floats in ``[0, 1]``.

    Returns:
        ``(B,)`` values in ``[0, 0.5]``.
    """
    grey = luma(images).flatten(1)
    # vector_norm, unlike std, has the gradient 0 at 0.
    spread: Tensor = torch.linalg.vector_norm(grey - grey.mean(1, keepdim=True), dim=1)
    return spread / grey.shape[1] ** 0.5


def colorfulness(images: Tensor) -> Tensor:
    """Colourfulness of each image; grey images have 0.

    Hasler and Suesstrunk 2003, "Measuring colourfulness in natural images", metric M3, on the 0..255 scale:
    ``sqrt(var(rg) + var(yb)) + 0.3 sqrt(mean(rg)^2 + mean(yb)^2)`` with ``rg = R - G`` and ``yb = (R + G) / 2 - B``.
    Gradients are finite everywhere, on grey and one-coloured images too.

    Args:
        images: ``(B, 3, H, W)`` floats in ``[0, 1]``.

    Returns:
        ``(B,)`` values of at least 0.
    """
    red, green, blue = (255 * at_least_float32(images)).flatten(2).unbind(1)
    opponents = torch.stack([red - green, (red + green) / 2 - blue], dim=1)  # (B, 2, H * W)
    mean = opponents.mean(2, keepdim=True)
    # vector_norm, unlike sqrt, has the gradient 0 at 0.
    spread: Tensor = torch.linalg.vector_norm(opponents - mean, dim=(1, 2)) / opponents.shape[2] ** 0.5
    offset: Tensor = torch.linalg.vector_norm(mean, dim=(1, 2))
    return spread + 0.3 * offset


def sharpness(images: Tensor) -> Tensor:
    """Variance over each image of the Laplacian of its luma on the 0..255 scale.

    Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy: a comparative study", ICPR, in the form
    in common use, without their factor 1/6 on the mask: ``var(sum of the four neighbours - 4 x the pixel)``, with the
    image mirrored at its outermost pixels. OpenCV's ``Laplacian(grey, CV_64F).var()`` gives the same for the same grey
    values. OpenCV's own grey values are those of Rec. 601, rounded.

    Args:
        images: ``(B, 3, H, W)`` floats in ``[0, 1]``, at least 2 pixels high and wide.

    Returns:
        ``(B,)`` values of at least 0.

    Raises:
        ValueError: If the images are only one pixel high or wide.
    """
    height, width = images.shape[-2:]
    if min(height, width) < 2:
        raise ValueError(f"images are {height}x{width} pixels: sharpness needs at least 2 each way.")
    grey = nn.functional.pad(255 * luma(images), (1, 1, 1, 1), mode="reflect")
    laplacian = grey.diff(n=2, dim=1)[:, :, 1:-1] + grey.diff(n=2, dim=2)[:, 1:-1]
    return laplacian.flatten(1).var(1, correction=0)


def symmetry(images: Tensor, mirror: Mirror = "left-right") -> Tensor:
    """Correlation of each image with its mirror image, over all pixels and channels.

    Let ``x`` be the image minus each channel's mean, and ``x'`` its mirror image. The value is
    ``mean(x x') / (mean(x^2) + f^2)`` with ``f = 1/255``. With ``f = 0`` it would be Pearson's coefficient. The ``f``
    gives images without visible contrast the value 0, and makes gradients finite everywhere.

    Args:
        images: ``(B, 3, H, W)`` floats in ``[0, 1]``.
        mirror: Sides to swap, "left-right" or "top-bottom".

    Returns:
        ``(B,)`` values in ``[-1, 1]``.

    Raises:
        ValueError: If the mirror is none of those.
    """
    require_choice("mirror", mirror, Mirror)
    precise = at_least_float32(images)
    centred = precise - precise.mean((2, 3), keepdim=True)
    mirrored = centred.flip(3 if mirror == "left-right" else 2)
    return (centred * mirrored).mean((1, 2, 3)) / (centred.square().mean((1, 2, 3)) + _FAINT**2)


def jpeg_kilobytes(
    images: Tensor, quality: int = 95, subsampling: Subsampling = "4:2:0", workers: int | None = None
) -> Tensor:
    """Size of each image's JPEG file in kilobytes, 1 kB = 1000 bytes; it has no gradient.

    Plain grey has 4.7 kB and white noise 308 kB at 512x512 pixels and the default quality. The headers alone take
    about 0.6 kB.

    Args:
        images: ``(B, 3, H, W)`` floats in ``[0, 1]``; they are rounded to 8 bits.
        quality: JPEG quality from 1 (smallest file) to 100 (largest).
        subsampling: Chroma subsampling. "4:2:0", Pillow's default, halves both sides of the colour planes.
        workers: Number of encoding threads; by default a few more than there are cores.

    Returns:
        ``(B,)`` float32 kilobytes on the images' device.
    """
    encode = partial(_jpeg_bytes, quality=quality, subsampling=subsampling)
    # Pillow releases the GIL while it encodes. The pool lives for one call, so that rewards can be pickled.
    with ThreadPoolExecutor(workers) as pool:
        sizes = list(pool.map(encode, to_eight_bit(images)))
    return torch.tensor(sizes, dtype=torch.float32, device=images.device) / 1000


def _jpeg_bytes(pixels: np.ndarray, quality: int, subsampling: Subsampling) -> int:
    """Bytes of the JPEG file of ``(H, W, 3)`` 8-bit pixels."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return file.tell()
