"""PNG files of the pictures of a run."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

from PIL import Image
from torch import Tensor

from rewards.eight_bit import to_eight_bit
from srsoup_lightning.runs.files import write_atomically

PNG_END = b"IEND\xaeB`\x82"


def to_picture(image: Tensor) -> Image.Image:
    """Convert an image (3, H, W) in [0, 1] to an 8-bit picture."""
    return Image.fromarray(to_eight_bit(image[None])[0])


def save_png(picture: Image.Image, path: Path) -> None:
    """Write a picture atomically: a reader sees the complete file or the old one."""
    content = BytesIO()
    picture.save(content, format="PNG")
    write_atomically(path, content.getvalue())


def is_complete(root: Path, image: str) -> bool:
    """Return whether a file ends as a PNG does. A file that is not there is not complete."""
    # Runs have hundreds of thousands of pictures: no file object and no Path for each.
    try:
        handle = os.open(os.path.join(root, image), os.O_RDONLY)
    except OSError:
        return False
    try:
        os.lseek(handle, -len(PNG_END), os.SEEK_END)
        return os.read(handle, len(PNG_END)) == PNG_END
    except OSError:  # shorter than that
        return False
    finally:
        os.close(handle)
