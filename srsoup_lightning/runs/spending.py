"""Counts of limits and budgets in a file, shared by all processes of a run and by those that continue it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from rewards.checks import first_line, read_text, refuse_constant
from srsoup_lightning.costs.account import Counts
from srsoup_lightning.runs.files import write_atomically

POLL = 0.005  # seconds between two tries to get a lock that another process holds


class SharedCounts:
    """A :class:`~srsoup_lightning.costs.account.Store` in a file that is written atomically.

    Args:
        path: The file. Without it, the counts are empty. Its lock lies beside it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Counts:
        """Return the counts as they are.

        Raises:
            ValueError: The file is damaged.
        """
        if not self.path.exists():
            return Counts()
        try:
            counts = Counts(**json.loads(read_text(self.path), parse_constant=refuse_constant))
            for name, amount in [*counts.spent.items(), *counts.held.items()]:
                if not (isinstance(amount, int | float) and 0 <= amount < math.inf):
                    raise ValueError(f"{name} is {str(amount)[:60]}")
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{self.path} is damaged ({first_line(error)}): delete it, and the costs of the finished soups are "
                "counted again"
            ) from None
        return counts

    @contextmanager
    def changing(self) -> Iterator[Counts]:
        """Yield the counts for one change, which is on the disk when the block has ended.

        Raises:
            ValueError: The file is damaged.
            OSError: The disk is full, or the folder is not writable. The counts stay as they were.
        """
        with FileLock(self.path.with_name(f".{self.path.name}.lock"), poll_interval=POLL):
            counts = self.read()
            yield counts
            write_atomically(self.path, json.dumps(asdict(counts)).encode())

    def begin(self, spent: Mapping[str, float]) -> None:
        """Start with these amounts, spent by name, where the file has none of that name."""
        with self.changing() as counts:
            counts.spent = {**spent, **counts.spent}
