"""Counts in a file, for all processes of a run and all that continue it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from srsoup_lightning.costs.account import Counts
from srsoup_lightning.runs.files import write_atomically

POLL = 0.005  # seconds between two looks at a lock that another process has


class SharedCounts:
    """A :class:`~srsoup_lightning.costs.account.Store` in a file that is there whole, whatever crashes.

    Args:
        path: The file; no file is no counts. Beside it lies its lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Counts:
        """The counts as they are.

        Raises:
            ValueError: The file is damaged.
        """
        if not self.path.is_file():
            return Counts()
        try:
            return Counts(**json.loads(self.path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise ValueError(
                f"{self.path} is damaged: delete it, and what finished soups have spent is counted again"
            ) from None

    @contextmanager
    def changing(self) -> Iterator[Counts]:
        """The counts for one change; on the disk before the block's caller goes on.

        Raises:
            ValueError: The file is damaged.
            OSError: The disk is full, or the place is not to be written; the counts stay as they were.
        """
        with FileLock(self.path.with_name(f".{self.path.name}.lock"), poll_interval=POLL):
            counts = self.read()
            yield counts
            write_atomically(self.path, json.dumps(asdict(counts)).encode())

    def begin(self, spent: Mapping[str, float]) -> None:
        """Take over what was spent by these names before anyone counted it here."""
        with self.changing() as counts:
            counts.spent = {**spent, **counts.spent}
