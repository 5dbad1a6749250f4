"""Text from elsewhere, as a terminal or a figure may show it."""

from __future__ import annotations

from rich.markup import escape


def printable(text: str) -> str:
    """The text with control characters written out as escapes: terminals obey them, and SVG has none."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def literal(text: str) -> str:
    """The text as a cell of rich's tables, in which nothing is markup or a control character."""
    return escape(printable(text))
