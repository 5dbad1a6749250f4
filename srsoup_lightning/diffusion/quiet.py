"""Keep what diffusers and transformers say about themselves out of a user's terminal."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

LIBRARIES = ("diffusers", "transformers")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def without_notices() -> Iterator[None]:
    """Hide the notices about slow image processors and the like."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    # Their own functions: before its first use, a level set on a library's logger would be set back by it.
    libraries = (diffusers_logging, transformers_logging)
    levels = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
    try:
        yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity(level)


@contextmanager
def without_loading_bars() -> Iterator[None]:
    """Hide the bars over weights read from disk, and leave those over a download."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    shown = diffusers_logging.is_progress_bar_enabled()
    hook = transformers_logging.set_tqdm_hook(lambda bar, args, options: bar(*args, **{**options, "disable": True}))
    diffusers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(hook)
        if shown:
            diffusers_logging.enable_progress_bar()


@contextmanager
def overheard() -> Iterator[list[str]]:
    """What diffusers and transformers warn of, in plain text; the terminal doesn't hear it."""
    heard: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: heard.append(COLOUR.sub("", record.getMessage()))  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    before = [(logger.handlers, logger.level) for logger in loggers]
    for logger in loggers:
        logger.handlers = [handler]
        logger.setLevel(logging.WARNING)
    try:
        yield heard
    finally:
        for logger, (handlers, level) in zip(loggers, before, strict=True):
            logger.handlers = handlers
            logger.setLevel(level)
