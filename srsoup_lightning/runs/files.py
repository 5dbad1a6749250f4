"""Atomic file writes, and tables of JSON lines that survive a crash of their writer, and a power cut.

A file is on the disk before it gets its name, and its name is on the disk when the write returns: the folder is flushed
too, and each new folder above it. So what was written before another write is there wherever the other one is, on disks
that do not lie about flushing.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rewards.checks import first_line, refuse_constant

MODE = 0o666  # of new files; the system takes off the umask, so that a group can share a directory


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are missing, with their names on the disk.

    Raises:
        OSError: The disk is full, or the folder above is not writable.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    flush_folder(folder.parent)


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the system can open folders."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks can't
            raise
    finally:
        os.close(handle)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the complete file or the old one, whatever crashes.

    No other process may write the same file. A process that is killed can leave ``.<name>.part`` behind, which the next
    write of the file replaces.

    Raises:
        OSError: The disk is full, or the folder is not writable. The old file stays as it was.
    """
    make_folder(path.parent)
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        flush_folder(path.parent)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


def is_utf8(text: str) -> bool:
    """Return whether a text can be encoded in UTF-8, which halves of surrogate pairs can't."""
    return text.encode(errors="replace").decode() == text


def require_text(prompt: str, where: str) -> None:
    """Check that a prompt can be encoded in UTF-8. JSON and command lines can hold halves of surrogate pairs.

    Raises:
        ValueError: It cannot. The message begins with `where`.
    """
    if not is_utf8(prompt):
        raise ValueError(f"{where} has the prompt {prompt!r}, which is no text in UTF-8: write it in that encoding")


def to_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Encode rows as JSON, one line each."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows to a .jsonl file that no other process writes: all of them, or none where they do not fit.

    Raises:
        OSError: The disk is full, or the folder is not writable.
    """
    make_folder(path.parent)
    content, is_new = to_lines(rows), not path.exists()
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, MODE)
    try:
        before = os.fstat(handle).st_size
        try:
            while content:
                content = content[os.write(handle, content) :]
            os.fsync(handle)
            if is_new:
                flush_folder(path.parent)
        except OSError as error:
            os.ftruncate(handle, before)
            error.filename = str(path)
            raise
    finally:
        os.close(handle)


def read_rows(path: Path, growing: bool = True) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read a .jsonl file, which may be missing. Blank lines are skipped.

    Args:
        path: The file.
        growing: Whether a process may be writing the file, or may have crashed while it did. Then a last line without
            its line end is no row.

    Yields:
        File and line in words, and the JSON object of that line.

    Raises:
        ValueError: A line is no JSON object, or the file is a pipe or a device.
    """
    if not path.exists():
        return
    if not path.is_file():
        raise ValueError(f"{path} is a folder, a pipe or a device, no table: remove it")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if growing and not line.endswith(b"\n"):
                return
            if line.strip():
                where = f"{path}, line {number}"
                yield where, _decoded(line, where)


def _decoded(line: bytes, where: str) -> dict[str, Any]:
    reason = "it is no JSON object"
    try:
        row = _DECODER.decode(line.decode())
    except (ValueError, RecursionError) as error:
        row, reason = None, first_line(error)
    if not isinstance(row, dict):
        raise ValueError(
            f"{where} is damaged ({reason}): delete that line, and the command that wrote the file makes it again"
        )
    return row


def is_torn(path: Path) -> bool:
    """Return whether the last line of a .jsonl file lacks its line end. A missing file is not torn."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as lines:
        lines.seek(-1, os.SEEK_END)
        return lines.read() != b"\n"


_DECODER = json.JSONDecoder(parse_constant=refuse_constant)
