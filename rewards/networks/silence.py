"""Silence of transformers: its bars, notices and warnings are kept out of the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silence_transformers(loading_bars: bool = True) -> Iterator[None]:
    """Hide the notices and warnings of transformers inside the ``with`` block, and restore its settings afterwards.

    The bar of a download is always shown, so that a user sees why a run waits. Errors are always logged.

    Args:
        loading_bars: Whether the bars over weights read from disk are hidden too.

    Raises:
        ModuleNotFoundError: If transformers is not installed.
    """
    from transformers.utils import logging

    # transformers' own functions: it would set back a level that was set on its logger before its first use.
    verbosity = logging.get_verbosity()
    hook = logging.set_tqdm_hook(_without_bar) if loading_bars else None
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if loading_bars:
            logging.set_tqdm_hook(hook)


def _without_bar(bar: type, args: tuple[object, ...], options: dict[str, object]) -> object:
    """The bar that transformers would make, switched off."""
    return bar(*args, **{**options, "disable": True})
