"""Silence of diffusers and transformers: their notices and bars are kept out of the terminal."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from rewards.networks.silence import silence_transformers

LIBRARIES = ("diffusers", "transformers")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def silence_libraries() -> Iterator[None]:
    """Hide notices, warnings and the bars over weights read from disk, and restore the libraries' settings afterwards.

    The bar of a download is always shown, so that a user sees why a run waits. Errors are always logged.
    """
    from diffusers.utils import logging as diffusers_logging

    with silence_transformers():
        # diffusers' own functions: it would set back a level that was set on its logger before its first use.
        verbosity, bars = diffusers_logging.get_verbosity(), diffusers_logging.is_progress_bar_enabled()
        diffusers_logging.set_verbosity_error()
        diffusers_logging.disable_progress_bar()
        try:
            yield
        finally:
            diffusers_logging.set_verbosity(verbosity)
            if bars:
                diffusers_logging.enable_progress_bar()


class _Collector(logging.Handler):
    """Collects warnings in plain text."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.warnings: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.warnings.append(COLOUR.sub("", record.getMessage()))


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect the warnings of diffusers and transformers in a list; the terminal does not show them."""
    collector = _Collector()
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    before = [(logger.handlers, logger.level) for logger in loggers]
    for logger in loggers:
        logger.handlers = [collector]
        logger.setLevel(logging.WARNING)
    try:
        yield collector.warnings
    finally:
        for logger, (handlers, level) in zip(loggers, before, strict=True):
            logger.handlers = handlers
            logger.setLevel(level)
