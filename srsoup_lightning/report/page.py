"""One HTML file made of a template, a style, a script, data and pictures. It loads nothing from anywhere.

The page's content security policy names the style and the script by their hashes, and allows pictures only from data
URIs. So neither a prompt nor any other text in the data can make a browser run or load something.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from rewards.pictures import as_rgb, open_picture
from srsoup_lightning.runs.data_uris import EXACT_SIDE, data_uri

ASSETS = files("srsoup_lightning.report") / "assets"


class Embedder:
    """Collects pictures as data URIs; see :func:`~srsoup_lightning.runs.data_uris.data_uri`. Equal ones are kept once.

    Args:
        max_side: Longest side in pixels. Larger pictures are made smaller in proportion.

    Raises:
        ValueError: `max_side` is below 1.
    """

    def __init__(self, max_side: int) -> None:
        if max_side < 1:
            raise ValueError(f"max_side is {max_side}: give at least 1 pixel, e.g. 512")
        self.max_side = max_side
        self.images: list[dict[str, Any]] = []
        """``source``, the data URI, ``width`` and ``height`` in pixels, in the order in which they were added."""
        self._indices: dict[str, int] = {}

    @property
    def exact(self) -> bool:
        """Whether all pictures keep every pixel."""
        return all(max(image["width"], image["height"]) <= EXACT_SIDE for image in self.images)

    def add(self, path: Path) -> int:
        """Add a picture to `images` if it isn't there yet.

        Args:
            path: Path of its file.

        Returns:
            Its index in `images`.

        Raises:
            FileNotFoundError, ValueError: See :func:`rewards.pictures.load_image`.
        """
        with open_picture(path) as file:
            picture = data_uri(as_rgb(file), self.max_side)
        if picture.source not in self._indices:
            self._indices[picture.source] = len(self.images)
            self.images.append(picture._asdict())
        return self._indices[picture.source]


def render(title: str, data: dict[str, Any]) -> str:
    """Return the HTML of the gallery's page.

    Args:
        title: Heading, as plain text.
        data: See :func:`srsoup_lightning.report.gallery.page_data`.

    Raises:
        ValueError: A number in the data isn't finite.
    """
    style, script = _asset("gallery.css"), _asset("gallery.js") + _asset("large.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash_source(style)}; script-src {_hash_source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return Template(_asset("gallery.html")).substitute(
        title=html.escape(title), policy=html.escape(policy), style=style, script=script, data=as_script_data(data)
    )


def as_script_data(data: dict[str, Any]) -> str:
    """Return data as ASCII JSON for a script element, without text that ends the element or starts a comment.

    Both need a ``<``. JSON has it only inside strings, where it can be written as an escape.

    Raises:
        ValueError: A number isn't finite.
    """
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", r"\u003c")


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _hash_source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
