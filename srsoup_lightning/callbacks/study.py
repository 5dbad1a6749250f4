"""The folder of the study: one event file that compares all runs of a log directory, written by each run that ends."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock, Timeout

from srsoup_lightning.callbacks.event_files import SUFFIX, EventFile, Record, empty, image_record, text_record
from srsoup_lightning.report.figure_style import to_picture
from srsoup_lightning.report.front_figure import draw_fronts_in_box
from srsoup_lightning.report.study import Study, runs_below, studies_of
from srsoup_lightning.report.units import Box
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.files import make_folder, write_atomically

FOLDER = "study"
PATIENCE = 120.0  # seconds to wait for other runs that end at the same time
logger = logging.getLogger(__name__)


def write_study(root: Path, run: Path, box: Box | None) -> Path | None:
    """Compare the runs below a folder in an event file in its folder ``study``, in place of earlier ones.

    Several runs may end at once, on several machines: each waits for the others, so that the last one sees all.

    Args:
        root: Log directory.
        run: Directory of the run that ends.
        box: Box of the hypervolume.

    Returns:
        The event file. None where the run can be compared with no other one, and none was compared before.

    Raises:
        FileExistsError: The folder is a run directory.
        OSError: The folder is not writable.
        TimeoutError: Another run is writing for too long.
        ValueError: The rows of a run do not fit together.
    """
    folder = root / FOLDER
    if RunDirectory(folder).identity.exists():
        raise FileExistsError(f"{folder} is a run directory: move it, because the comparison of all runs goes there")
    compared = {each.root.resolve() for study in studies_of(runs_below(root), box) for each in study.runs}
    if run.resolve() not in compared and not any(folder.glob(f"*{SUFFIX}")):
        return None
    make_folder(folder)
    try:
        with FileLock(folder / ".lock", timeout=PATIENCE):
            studies = studies_of(runs_below(root), box)  # also those that ended while this one was waiting
            return _replace(folder, list(_records(studies)))
    except Timeout:
        raise TimeoutError(f"another run has been writing to {folder} for {PATIENCE:g} s: remove its .lock") from None


def _replace(folder: Path, records: Sequence[Record]) -> Path:
    """Write an event file elsewhere, put it into the folder as a whole, and empty earlier ones."""
    old = list(folder.glob("*tfevents*"))
    with tempfile.TemporaryDirectory() as temporary:
        file = EventFile(temporary)
        file.write_anew(records)
        file.close()
        (written,) = Path(temporary).iterdir()
        path = folder / written.name
        write_atomically(path, written.read_bytes())
    empty(old)
    return path


def _records(studies: Sequence[Study]) -> Iterator[Record]:
    for number, study in enumerate(studies, 1):
        step, of_several = len(study.runs), f" {number}: {study.title}" if len(studies) > 1 else ""
        yield text_record(f"all runs/results{of_several}", f"{study.title}\n\n{study.table().markdown()}", step)
        for label, sheet in study.sheets().items():
            yield image_record(f"all runs/pictures{of_several} of {label}", sheet, step)
        if find_spec("matplotlib") is not None and len(study.runs[0].rewards) > 1:
            yield image_record(
                f"all runs/fronts{of_several}", to_picture(draw_fronts_in_box(study.runs, study.box)), step
            )
