"""All runs below a folder side by side: one figure of their fronts, sheets of their pictures, and a table."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from srsoup_lightning.report.hparams import method_of, metric_names, metrics_of
from srsoup_lightning.report.run_tables import TextTable
from srsoup_lightning.report.sheet import methods_sheet
from srsoup_lightning.report.units import Box, extremes
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.naming import prompt_label
from srsoup_lightning.runs.reading import Run, read_run
from srsoup_lightning.runs.rows import grouped

if TYPE_CHECKING:
    from PIL import Image

DEPTH = ("*", "*/*")  # folders below the root where runs are looked for
SHEETS = 8  # prompts with a sheet
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Study:
    """Runs with the same rewards on the same prompts.

    Attributes:
        runs: At least two runs, named by their folder and method.
        box: Box that their fronts are measured in.
    """

    runs: Sequence[Run]
    box: Box

    @property
    def title(self) -> str:
        """Rewards and number of prompts."""
        prompts = len(self.runs[0].prompts)
        return f"{' and '.join(self.runs[0].rewards)}, {prompts} {'prompt' if prompts == 1 else 'prompts'}"

    def sheets(self) -> dict[str, Image.Image]:
        """Draw the pictures of all runs for the first prompts, by the label of the prompt."""
        return {prompt_label(prompt): methods_sheet(prompt, self.runs) for prompt in self.runs[0].prompts[:SHEETS]}

    def table(self) -> TextTable:
        """Return a table of the results of all runs."""
        names = metric_names(self.runs[0].scored)
        results = [(run.name, metrics_of(run, self.box)) for run in self.runs]
        return TextTable(["run", *names], [[name, *(found.get(each, "") for each in names)] for name, found in results])


class Found(NamedTuple):
    """Run that was found below a folder.

    Attributes:
        run: The run, with pictures.
        method: Name of its method; "" where it is not known.
        begun: Time of its first picture, in seconds since the epoch.
    """

    run: Run
    method: str
    begun: float


def runs_below(root: Path) -> list[Found]:
    """Read the runs with pictures at most two folders below a folder, in alphabetical order of their folders.

    A run that cannot be read, or lacks a picture, is left out with a warning.
    """
    tables = {table for depth in DEPTH for table in root.glob(f"{depth}/{RunDirectory(root).samples.name}")}
    found = (_read(table.parent, root) for table in sorted(tables))
    return [each for each in found if each is not None]


def require_below(run: Path, root: Path) -> None:
    """Check that a run directory is where :func:`runs_below` looks for it.

    Raises:
        ValueError: It is not.
    """
    if root.resolve() not in list(run.resolve().parents)[: len(DEPTH)]:
        raise ValueError(
            f"study is {str(root)!r}, and the run directory {run} is not at most {len(DEPTH)} folders below it: give a "
            "folder above it, true for the next one, or false"
        )


def studies_of(runs: Sequence[Found], box: Box | None) -> list[Study]:
    """Group the runs that have the same rewards on the same prompts. A run without others is in no group.

    Args:
        runs: Runs.
        box: Box of the hypervolume, for runs that have all of its rewards. Others take the extremes of the group.
    """
    groups = grouped(runs, lambda found: (frozenset(found.run.scored), frozenset(found.run.prompts)))
    return [_study(group, box) for group in groups.values() if len(group) > 1]


def method_number(method: str, runs: Iterable[Found]) -> int:
    """Return the number of a method among those of all runs, 1 for the method that made pictures first.

    A method keeps its number while other ones follow. A method of no run is the last one.
    """
    methods = dict.fromkeys(found.method for found in sorted(runs, key=lambda found: found.begun))
    return 1 + list(methods | {method: None}).index(method)


def _read(path: Path, root: Path) -> Found | None:
    try:
        run = read_run(path, path.relative_to(root).as_posix())
        begun = [run.picture(row).stat().st_mtime for row in run.images]
        return Found(run, method_of(run), begun[0]) if begun else None
    except (OSError, ValueError) as error:
        logger.warning("%s is left out of the comparison of runs in TensorBoard: %s", path, error)
        return None


def _study(group: Sequence[Found], box: Box | None) -> Study:
    scored = group[0].run.scored
    rows = [row for found in group for row in found.run.images]
    weighed = {name for row in rows for name, weight in row.preference.items() if weight}
    objectives = tuple(name for name in scored if name in weighed) or scored
    named = [
        replace(run, objectives=objectives, name=f"{run.name}: {method}" if method else run.name)
        for run, method, _ in group
    ]
    if box is None or not set(objectives) <= set(box):
        box = {name: (low, high if low < high else low + 1) for name, (low, high) in extremes(named).items()}
    return Study(named, box)
