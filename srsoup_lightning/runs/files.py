"""Files that a reader finds whole or not at all, whenever the writer was killed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that no other process writes so that it is there whole or not at all, whatever crashes.

    What a kill leaves of it, ``.<name>.part``, is overwritten when the file is written again.

    Raises:
        OSError: The disk is full, or the place is not to be written; an old file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def require_text(prompt: str, where: str) -> None:
    """Check that a file in UTF-8 can hold a prompt; JSON and command lines can hold halves of letters.

    Raises:
        ValueError: None can; the message begins with `where`.
    """
    if prompt.encode(errors="replace").decode() != prompt:
        raise ValueError(f"{where} has the prompt {prompt!r}, which is no text in UTF-8: write it in that encoding")


def to_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as JSON, a line each."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add whole lines to a .jsonl file that no other process writes; if they don't fit, add none.

    Raises:
        OSError: The disk is full, or the place is not to be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = to_lines(rows)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        before = os.fstat(handle).st_size
        try:
            while content:
                content = content[os.write(handle, content) :]
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, before)
            raise
    finally:
        os.close(handle)


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a .jsonl file, none if there is no such file; a last line that a crash tore is no row.

    Raises:
        ValueError: Another line is damaged.
    """
    if not path.is_file():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            try:
                row = _DECODER.decode(line.decode())
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise ValueError(
                    f"{path}, line {number} is damaged: delete that line, and the same command makes its soup again"
                )
            yield row


def is_torn(path: Path) -> bool:
    """Whether a crash tore the last line of a .jsonl file; not if there is no such file."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as lines:
        lines.seek(-1, os.SEEK_END)
        return lines.read() != b"\n"


def _refuse(constant: str) -> None:
    """Python reads NaN and Infinity, which JSON doesn't have and no row of ours."""
    raise ValueError(constant)


_DECODER = json.JSONDecoder(parse_constant=_refuse)
