"""Text of other origin, made safe for a terminal or a figure; messages of this package; those of others, silenced."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

PACKAGE = __name__.partition(".")[0]


def printable(text: str) -> str:
    """Return the text with its control characters as escapes. Terminals would obey them, and SVG has none."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def literal(text: str) -> str:
    """Return the text for a table of rich, without markup and control characters."""
    return escape(printable(text))


def say(message: str) -> None:
    """Show a line of the command line on the error output, whose present stream a bar may have replaced."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"srsoup: {printable(message)}", markup=False)


class _Messages(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        say(level + record.getMessage())


@contextmanager
def messages(level: int) -> Iterator[None]:
    """Show messages of this package from a level on, in lines on the error output, until the block ends."""
    logger, handler = logging.getLogger(PACKAGE), _Messages()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def is_quiet() -> bool:
    """Whether this package shows warnings and errors alone: it then draws no bars."""
    return logging.getLogger(PACKAGE).level >= logging.WARNING


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
