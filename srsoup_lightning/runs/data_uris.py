"""Pictures as data URIs, for pages that load nothing."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import NamedTuple

from PIL import Image

EXACT_SIDE = 128  # pixels; small pictures are shown enlarged, pixel by pixel, so that compression would be visible
QUALITY = 90


class Embedded(NamedTuple):
    """Picture in a page: its data URI, and its width and height in pixels."""

    source: str
    width: int
    height: int


def data_uri(picture: Image.Image, max_side: int) -> Embedded:
    """Encode a picture as WebP.

    A picture whose sides are at most 128 pixels keeps every pixel exactly. Larger ones are compressed at quality 90.

    Args:
        picture: RGB picture. It stays as it is.
        max_side: Longest side in pixels. A larger picture is made smaller in proportion.
    """
    if max(picture.size) > max_side:
        picture = picture.copy()
        picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    picture.save(buffer, "WebP", lossless=max(picture.size) <= EXACT_SIDE, quality=QUALITY)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return Embedded(f"data:image/webp;base64,{encoded}", picture.width, picture.height)
