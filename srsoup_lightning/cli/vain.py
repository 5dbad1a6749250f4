"""Runs in vain: a run that fails before it has anything leaves no folder that looks like a run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from srsoup_lightning.runs.directory import RunDirectory


@contextmanager
def nothing_in_vain(root: str | Path, alone: bool) -> Iterator[None]:
    """Remove a run directory that the block has made, where the block fails and the directory holds no results.

    Args:
        root: Run directory. One that has existed before, and was not empty, stays as it is.
        alone: Whether this process is the only one of the run. Others may still write when this one fails.
    """
    folder = Path(root)
    was_empty = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    try:
        yield
    except BaseException:
        if was_empty and alone and not _holds_results(RunDirectory(folder)):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _holds_results(run: RunDirectory) -> bool:
    """Whether a directory has a soup, a checkpoint, an adapter, or the count of what was spent of a budget."""
    folders = (run.checkpoints, run.adapter)
    return bool(run.sample_tables()) or run.spending.exists() or any(any(folder.glob("*")) for folder in folders)
