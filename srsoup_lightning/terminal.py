"""Text of other origin, made safe for a terminal or a figure, and messages of other libraries, silenced."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from rich.markup import escape


def printable(text: str) -> str:
    """Return the text with its control characters as escapes. Terminals would obey them, and SVG has none."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def literal(text: str) -> str:
    """Return the text for a table of rich, without markup and control characters."""
    return escape(printable(text))


@contextmanager
def silenced(levels: Mapping[str, int], patterns: Iterable[str]) -> Iterator[None]:
    """Silence loggers and warnings of other libraries until the block ends.

    Args:
        levels: Name of a logger to the lowest level of its messages that are shown.
        patterns: Regular expressions of the warnings that are not shown.
    """
    before = {name: logging.getLogger(name).level for name in levels}
    with warnings.catch_warnings():
        for pattern in patterns:
            warnings.filterwarnings("ignore", message=pattern)
        try:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
            yield
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)
