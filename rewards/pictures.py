"""Picture files as images: one loader, so that a picture is the same for every reward and every report."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from rewards.eight_bit import from_eight_bit

SUFFIXES = frozenset({".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
MOST_PIXELS = 4096 * 4096
"""Largest number of pixels of a picture. As an image, such a picture has 200 MB."""

_ORIENTATION = 0x0112  # key of EXIF
_SIXTEEN_BIT_WHITE, _STEP = 65535, 257  # 257 * 255 = 65535


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """Open a picture. Only its header is read until its pixels are asked for.

    Pillow can read many other kinds of files, some through other programs. Here it reads only the kinds of SUFFIXES,
    whatever the name of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is torn, is no picture, or its header states more than MOST_PIXELS pixels. The block can
            raise it too, when it reads the pixels.
    """
    if not path.exists():
        raise FileNotFoundError(f"no picture {str(path)!r}: make it again, or remove the row that names it")
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is a folder, a pipe or a device, no picture: remove it")
    kinds = {kind for suffix, kind in Image.registered_extensions().items() if suffix in SUFFIXES}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is a lower one
            picture = Image.open(path, formats=sorted(kinds))
        with picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            yield picture
    except Image.DecompressionBombError:
        raise ValueError(
            f"{path} has more than {MOST_PIXELS / 1e6:.1f} megapixels, as files that are made to fill the memory: "
            "remove it, or make it smaller"
        ) from None
    except (OSError, SyntaxError) as error:  # the latter is how Pillow says that a PNG is broken
        raise ValueError(f"{path} is torn or no picture ({error}): remove it, or make it anew") from None


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of an upright picture, from the header of its file.

    Raises:
        FileNotFoundError, ValueError: See :func:`open_picture`.
    """
    with open_picture(path) as picture:
        turned = _orientation(picture) >= 5  # 5 ... 8 swap the sides
        return (picture.height, picture.width) if turned else picture.size


def as_rgb(picture: Image.Image) -> Image.Image:
    """Convert a picture to 8-bit RGB, turned upright, with white for transparency.

    Grey of 16 bits keeps its range, and so does grey of floats, from 0 to 1. Of an animation, it is the first frame.

    Raises:
        ValueError: The pixels are floats outside [0, 1], or whole numbers whose white no standard tells.
    """
    name = getattr(picture, "filename", "the picture")
    upright = picture if _orientation(picture) == 1 else ImageOps.exif_transpose(picture)
    if upright.mode in ("F", "I") or upright.mode.startswith("I;16"):
        return Image.fromarray(_eight_bit_grey(upright, name)).convert("RGB")
    if upright.has_transparency_data:
        canvas = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(canvas, upright.convert("RGBA"))
    return upright.convert("RGB")


def load_image(path: Path) -> Tensor:
    """Load a picture as an image (3, H, W) float32 in [0, 1]; see :func:`as_rgb`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: See :func:`open_picture` and :func:`as_rgb`.
    """
    with open_picture(path) as picture:
        pixels = np.array(as_rgb(picture))
    return from_eight_bit(pixels[None])[0]


def _orientation(picture: Image.Image) -> int:
    """Orientation of a picture, 1 to 8. In a PNG it counts only before the pixels, which Pillow would decode first."""
    if picture.format == "PNG" and "exif" not in picture.info:
        return 1
    return picture.getexif().get(_ORIENTATION, 1)


def _eight_bit_grey(picture: Image.Image, name: str) -> np.ndarray:
    """Levels 0 to 255 (H, W) of a picture with one channel of more than 8 bits."""
    pixels = np.asarray(picture).astype(np.float64)
    if picture.mode == "F":
        if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError(
                f"{name} has floats from {pixels.min():g} to {pixels.max():g}: save it with floats from 0 to 1"
            )
        levels = 255 * pixels
    elif pixels.min() < 0 or pixels.max() > _SIXTEEN_BIT_WHITE:
        raise ValueError(
            f"{name} has whole numbers of more than 16 bits, whose white no standard tells: save it with 16 bits"
        )
    else:
        transparent = picture.info.get("transparency")
        levels = np.where(pixels == transparent, _SIXTEEN_BIT_WHITE, pixels) / _STEP
    return levels.round().astype(np.uint8)
