"""Words from elsewhere, as a terminal or a figure may show them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from rich.markup import escape


def printable(text: str) -> str:
    """The text with control characters written out as escapes: terminals obey them, and SVG has none."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def literal(text: str) -> str:
    """The text as a cell of rich's tables, in which nothing is markup or a control character."""
    return escape(printable(text))


@contextmanager
def hushed(levels: Mapping[str, int], advice: Iterable[str]) -> Iterator[None]:
    """Keep words of other libraries from a terminal that shows progress, until the block ends.

    Args:
        levels: Below which level each logger, by name, says nothing.
        advice: Patterns of warnings that aren't shown.
    """
    before = {name: logging.getLogger(name).level for name in levels}
    with warnings.catch_warnings():
        for pattern in advice:
            warnings.filterwarnings("ignore", message=pattern)
        try:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
            yield
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)
