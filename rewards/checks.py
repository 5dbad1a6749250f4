"""Shared checks and messages. They need only the standard library."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn, get_args


def require_choice(name: str, value: object, choices: Any) -> None:  # noqa: ANN401 - a Literal has no type of its own
    """Check that an argument is one of the values that it may have.

    Args:
        name: Name of the argument in the message.
        value: The argument.
        choices: A ``Literal``, or an iterable of the values.

    Raises:
        ValueError: It is none of them; the message lists them.

    Example:
        >>> require_choice("fit", "stretch", ["pad", "crop"])
        Traceback (most recent call last):
        ValueError: fit is 'stretch': choose one of pad, crop
    """
    allowed: Iterable[object] = get_args(choices) or choices
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}: choose one of {', '.join(map(str, allowed))}")


def require_no_url(name: str, source: str | None, instead: str = "a folder or a hub id") -> None:
    """Check that a model or a file is not given by a URL: a URL may hold a token, and configs would store it.

    Args:
        name: Name of the argument in the message. The message does not show the URL.
        source: Folder, hub id or name; None passes.
        instead: Accepted values, for the message.

    Raises:
        ValueError: It is a URL.
    """
    if source is not None and "://" in source:
        raise ValueError(f"{name} is a URL: give {instead}, and a token by the environment's HF_TOKEN")


def first_line(reason: object) -> str:
    """First line of an error's message without its full stop. An error without a message has the name of its type."""
    lines = str(reason).strip().splitlines() or [type(reason).__name__]
    return lines[0].rstrip(".:")


def refuse_constant(constant: str) -> NoReturn:
    """Refuse NaN and Infinity, as ``parse_constant`` of a JSON decoder: Python reads them, JSON does not have them.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f"{constant} is no JSON")
