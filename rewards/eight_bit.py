"""Images as 8-bit pixels and as PNG files, and back."""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rewards.base import at_least_float32

_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"
_RGB = (8, 2)  # bit depth and colour type in a PNG's header


def to_eight_bit(images: Tensor) -> np.ndarray:
    """Images (B, 3, H, W) in [0, 1] as pixels (B, H, W, 3) of whole levels 0 to 255, rounded half to even."""
    levels = at_least_float32(images.detach()).mul(255).round().clamp(0, 255).byte()
    return levels.permute(0, 2, 3, 1).cpu().numpy()


def from_eight_bit(pixels: np.ndarray) -> Tensor:
    """Pixels (B, H, W, 3) of levels 0 to 255 as float32 images (B, 3, H, W) in [0, 1]."""
    # Contiguous, as decoders give images: sums over another layout differ in their last digit.
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float().div(255)


def write_png(pixels: np.ndarray) -> bytes:
    """The PNG file of (H, W, 3) 8-bit pixels: lossless, compressed for speed."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def png_size(content: bytes) -> tuple[int, int]:
    """Height and width of a PNG file, from its header alone.

    Raises:
        ValueError: If the file is no PNG, if its pixels are anything but 8-bit RGB, or if its header states no pixels.
    """
    if not content.startswith(_START) or len(content) < len(_START) + 10:
        raise ValueError("is no PNG file")
    width, height, *kind = struct.unpack_from(">IIBB", content, len(_START))
    if tuple(kind) != _RGB:
        raise ValueError(f"is a PNG of bit depth {kind[0]} and colour type {kind[1]}, not of 8-bit RGB (8 and 2)")
    if not width * height:
        raise ValueError(f"is a PNG of {height}x{width} pixels")
    return height, width


def read_png(content: bytes) -> np.ndarray:
    """Pixels (H, W, 3) of an 8-bit RGB PNG file. Ask :func:`png_size` first for the size of the result.

    Raises:
        ValueError: If the file is of another kind or broken.
    """
    png_size(content)
    try:
        with Image.open(BytesIO(content), formats=["PNG"]) as image:
            return np.array(image.convert("RGB"))
    except Exception as error:  # Pillow has no one error for broken files: OSError, SyntaxError, ValueError, zlib's ...
        raise ValueError(f"is a broken PNG file ({type(error).__name__})") from None
