"""``srsoup verify``: whether run directories are what the runs have written."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from srsoup_lightning.cli.refusal import FoundError
from srsoup_lightning.cli.run_config import saved_config
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.verification import problems
from srsoup_lightning.terminal import printable


def verify(runs: list[str]) -> None:
    """Check run directories: every row, and every picture by the checksum in its row. No model is loaded.

    Args:
        runs: Run directories.

    Raises:
        FileNotFoundError: A directory is missing or holds no run.
        FoundError: A run has problems, which are shown.
    """
    wrong = {root: _shown(Path(root)) for root in runs}
    if bad := [root for root, number in wrong.items() if number]:
        raise FoundError(f"{sum(wrong.values())} problems in {', '.join(bad)}")


def _shown(root: Path) -> int:
    """Show the problems of a run, or that there are none, and return their number."""
    run, console = RunDirectory(root), Console(soft_wrap=True, highlight=False)
    if not (run.identity.exists() or run.sample_tables()):
        raise FileNotFoundError(f"no run {str(root)!r}: give a run directory")
    found = list(problems(run))
    try:
        saved_config(run)
    except (OSError, ValueError) as error:
        found.append(str(error))
    for problem in found:
        console.print(printable(problem), markup=False)
    if not found:
        pictures, soups = sum(1 for _ in run.image_rows()), sum(1 for _ in run.cost_rows())
        console.print(printable(f"{root}: {soups} soups, {pictures} pictures, all whole"), markup=False)
    return len(found)
