"""PNG files of the pictures of a run."""

from __future__ import annotations

import hashlib
import os
from io import BytesIO
from pathlib import Path

from PIL import Image
from torch import Tensor

from rewards.eight_bit import to_eight_bit
from srsoup_lightning.runs.files import write_atomically


def to_picture(image: Tensor) -> Image.Image:
    """Convert an image (3, H, W) in [0, 1] to an 8-bit picture."""
    return Image.fromarray(to_eight_bit(image[None])[0])


def save_png(picture: Image.Image, path: Path) -> str:
    """Write a picture atomically: a reader sees the complete file or the old one.

    Returns:
        SHA-256 of the file, in hexadecimal digits.
    """
    content = BytesIO()
    picture.save(content, format="PNG")
    write_atomically(path, content.getvalue())
    return hashlib.sha256(content.getbuffer()).hexdigest()


def is_intact(root: Path, image: str, sha256: str) -> bool:
    """Return whether a file has this checksum. A file that is not there, or a row without a checksum, is not intact."""
    path = os.path.join(root, image)  # no Path: there may be hundreds of thousands
    if not os.path.isfile(path):  # a pipe would wait for a writer
        return False
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False
