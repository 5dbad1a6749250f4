"""Luma: how light a pixel looks."""

from __future__ import annotations

import torch
from torch import Tensor

from rewards.base import at_least_float32

_REC_709 = (0.2126, 0.7152, 0.0722)


def luma(images: Tensor) -> Tensor:
    """Rec. 709 luma of each pixel: ``0.2126 R + 0.7152 G + 0.0722 B`` of the values as they are stored.

    ITU-R BT.709, whose primaries sRGB shares. Stored values grow roughly with perceived lightness, so that middle grey
    is 0.5; linear light, from which the weights are derived, would call it 0.21 and let highlights decide.

    Args:
        images: ``(B, 3, H, W)`` floats in ``[0, 1]``, sRGB.

    Returns:
        ``(B, H, W)`` values in ``[0, 1]``, in the images' precision but at least float32.
    """
    precise = at_least_float32(images)
    # A sum, not a product of matrices, which autocast would do in half precision.
    return (precise * torch.tensor(_REC_709).to(precise).view(3, 1, 1)).sum(1)
