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


class _Listener(logging.Handler):
    """Keeps what is said, in plain text."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(COLOUR.sub("", record.getMessage()))


@contextmanager
def overheard() -> Iterator[list[str]]:
    """What diffusers and transformers warn of meanwhile, in a list instead of the terminal."""
    on_step = _Listener()
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    before = [(logger.handlers, logger.level) for logger in loggers]
    for logger in loggers:
        logger.handlers = [on_step]
        logger.setLevel(logging.WARNING)
    try:
        yield on_step.heard
    finally:
        for logger, (handlers, level) in zip(loggers, before, strict=True):
            logger.handlers = handlers
            logger.setLevel(level)
