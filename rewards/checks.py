"""Shared checks and messages. They need only the standard library."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
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


def require_instance(name: str, value: object, kind: type, optional: bool = False) -> None:
    """Check that an argument is an object of a class. The class itself in its place is a common slip.

    Args:
        name: Name of the argument in the message.
        value: The argument.
        kind: The class.
        optional: Whether None passes too.

    Raises:
        TypeError: It is no such object.

    Example:
        >>> require_instance("sampler", str, str)
        Traceback (most recent call last):
        TypeError: sampler is the class str: give an instance, str(...)
    """
    if isinstance(value, type):
        raise TypeError(f"{name} is the class {value.__name__}: give an instance, {value.__name__}(...)")
    if not (isinstance(value, kind) or (optional and value is None)):
        raise TypeError(f"{name} is {value!r}: give an instance of {kind.__name__}")


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


def read_text(path: Path, most: int = 64 * 2**20) -> str:
    """Read a text file in UTF-8, whatever the locale.

    Args:
        path: The file.
        most: Largest size in bytes.

    Returns:
        The text without a byte-order mark. A line feed ends each of its lines.

    Raises:
        OSError: The file is missing, or can't be read.
        ValueError: It is a folder, a pipe or a device, larger than `most`, or not in UTF-8.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is a folder, a pipe or a device: give a file")
    if (size := path.stat().st_size) > most:
        raise ValueError(f"{path} has {size:,} bytes, more than {most:,}: it is not what it should be")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8 ({first_line(error)}): save it in that encoding") from None


def refuse_constant(constant: str) -> NoReturn:
    """Refuse NaN and Infinity, as ``parse_constant`` of a JSON decoder: Python reads them, JSON does not have them.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f"{constant} is no JSON")
