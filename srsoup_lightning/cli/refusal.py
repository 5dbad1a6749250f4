"""Refusals: errors about the command, its config or its files, which are raised before the work begins."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from srsoup_lightning.oracle.policy import NoGradientError

REFUSALS: tuple[type[Exception], ...] = (
    ValueError,
    NoGradientError,
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
)


class FoundError(RuntimeError):
    """A command has done its work and found something wrong."""


@contextmanager
def refusing(*further: type[Exception], begun: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Turn errors about arguments into misuse, whose exit code is 2.

    Args:
        *further: Types of errors that are refusals in this block, beside REFUSALS.
        begun: Whether the work has begun, so that an error is a failure of the work.

    Raises:
        ArgumentError: A refusal, with its notes.
    """
    try:
        yield
    except REFUSALS + further as error:
        if begun():
            raise
        raise ArgumentError(None, "".join([str(error), *(f", {note}" for note in notes_of(error))])) from error


def notes_of(error: BaseException) -> list[str]:
    """Return the notes of an error."""
    return getattr(error, "__notes__", [])
