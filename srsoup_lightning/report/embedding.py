"""Picture files as data that a page can carry."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from srsoup_lightning.runs.pictures import open_picture

EXACT_SIDE = 128  # pixels; enlarged pixel by pixel, so that compression would show
QUALITY = 90


class Embedder:
    """Takes pictures in, each once however often it is added, as data URIs of WebP.

    A picture whose sides are at most 128 pixels keeps every pixel exactly; larger ones are compressed at quality 90.

    Args:
        max_side: Pixels; a picture with a longer side is made smaller, its proportions kept.

    Raises:
        ValueError: `max_side` is below 1.
    """

    def __init__(self, max_side: int) -> None:
        if max_side < 1:
            raise ValueError(f"max_side is {max_side}: give at least 1 pixel, e.g. 512")
        self.max_side = max_side
        self.images: list[dict[str, Any]] = []
        """``source``, the data URI, ``width`` and ``height`` in pixels, in the order of their first adding."""
        self._places: dict[bytes, int] = {}

    @property
    def exact(self) -> bool:
        """Whether all pictures are so small that they keep every pixel."""
        return all(max(image["width"], image["height"]) <= EXACT_SIDE for image in self.images)

    def add(self, path: Path) -> int:
        """The place of a picture in `images`, where it is put if it isn't there yet.

        Args:
            path: The file.

        Raises:
            FileNotFoundError, ValueError: See :func:`srsoup_lightning.runs.pictures.open_picture`.
        """
        with open_picture(path) as file:
            picture = ImageOps.exif_transpose(file).convert("RGBA" if file.has_transparency_data else "RGB")
        picture.thumbnail((self.max_side, self.max_side), Image.Resampling.LANCZOS)
        buffer = BytesIO()
        picture.save(buffer, "WebP", lossless=max(picture.size) <= EXACT_SIDE, quality=QUALITY)
        encoded = buffer.getvalue()
        if encoded not in self._places:
            self._places[encoded] = len(self.images)
            source = f"data:image/webp;base64,{base64.b64encode(encoded).decode()}"
            self.images.append({"source": source, "width": picture.width, "height": picture.height})
        return self._places[encoded]
