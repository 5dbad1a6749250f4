"""One HTML file out of a template, a style, a script and data, which allows itself nothing else.

The page's content security policy names the style and the script by their hashes and lets pictures come from data URIs
only, so that neither a prompt nor anything else in the data can make a browser run or load something.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from importlib.resources import files
from string import Template
from typing import Any

ASSETS = files("srsoup_lightning.report") / "assets"


def render(title: str, data: dict[str, Any]) -> str:
    """The gallery's page around its data.

    Args:
        title: Plain text.
        data: See :func:`srsoup_lightning.report.gallery.page_data`.

    Raises:
        ValueError: A number that isn't finite.
    """
    style, script = _asset("gallery.css"), _asset("gallery.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash_source(style)}; script-src {_hash_source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return Template(_asset("gallery.html")).substitute(
        title=html.escape(title), policy=html.escape(policy), style=style, script=script, data=as_script_data(data)
    )


def as_script_data(data: dict[str, Any]) -> str:
    """JSON that may stand in a script element: nothing in it ends the element or starts a comment.

    Both need a ``<``, which JSON has inside strings only, where it can be written as an escape. The rest is ASCII.

    Raises:
        ValueError: A number that isn't finite.
    """
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", r"\u003c")


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _hash_source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
