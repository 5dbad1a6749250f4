"""Soups that Python code saves by itself, without a run of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.lock import RunLock
from srsoup_lightning.runs.rows import ImageRow, Key, SoupRecord


def save_soup(soup: SoupRecord, folder: str | Path) -> Path:
    """Write a soup to a folder in the layout of a run directory, beside those that were saved there before.

    Returns:
        Path of the folder.

    Raises:
        FileExistsError: The folder has a soup of this prompt and seed, soups of other rewards, or a run of the command
            line; or another process is writing to it.
        NotADirectoryError: `folder` is a file.
        OSError: The disk is full, or the folder is not writable.
        ValueError: `folder` is a URL, or a table in it is damaged.
    """
    run, lock = RunDirectory(folder), RunLock()
    if run.root.exists() and not run.root.is_dir():
        raise NotADirectoryError(f"{run.root} is a file: give a folder")
    if run.identity.exists():
        raise FileExistsError(f"{run.root} holds a run of srsoup predict: give another folder")
    lock.acquire(run)
    try:
        _require_room(run, run.recover(), soup)
        run.write(soup)
    finally:
        lock.release()
    return run.root


def _require_room(run: RunDirectory, saved: Mapping[Key, Sequence[ImageRow]], soup: SoupRecord) -> None:
    if (soup.prompt, soup.seed) in saved:
        raise FileExistsError(
            f"{run.root} has the soup of prompt {soup.prompt!r} and seed {soup.seed} already: give another folder"
        )
    for row in next(iter(saved.values()), ()):
        if set(row.rewards) != set(soup.reward_names):
            raise FileExistsError(
                f"{run.root} has soups of the rewards {list(row.rewards)}, and this one has {list(soup.reward_names)}: "
                "give another folder"
            )
