"""TensorBoard's event files of a run. TensorBoard calls each folder of them a run.

::

    .                                       by finished soups: costs, pictures, the layout of the custom scalars
    denoising/<prompt slug>-<hash>/<seed>   by denoising step, of one soup
    denoising/mean from soup <number> on    by denoising step, the mean of all soups since the run was begun or resumed
    front                                   the Pareto front of the whole run, written anew each time
    front/<preference>                      a session of HParams of the whole run, written anew each time
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from srsoup_lightning.callbacks.curves import SO_FAR, MeanCurves, PreferenceNames, cost_values, layout, step_values
from srsoup_lightning.data import SoupRequest
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.report.front_figure import draw_front
from srsoup_lightning.report.hparams import Value, hparams_of
from srsoup_lightning.report.sheet import soup_sheet
from srsoup_lightning.report.units import Box
from srsoup_lightning.runs.directory import cost_row_of
from srsoup_lightning.runs.naming import prompt_label
from srsoup_lightning.runs.reading import Run
from srsoup_lightning.runs.rows import CostRow, total
from srsoup_lightning.samplers.result import Moment, Soup

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

STEPS, FRONT = "denoising", "front"
logger = logging.getLogger(__name__)


class SoupLog:
    """Logs soups as they are made.

    Args:
        board: The writer of the event files; its steps are finished soups.
        preferences: Preferences of the run.
        costs: Cost rows of the soups that are finished already.
        curves: Number of soups of the run with curves of their own.
    """

    def __init__(self, board: SummaryWriter, preferences: Preferences, costs: Sequence[CostRow], curves: int) -> None:
        self.board, self.curves = board, curves
        self.first = self.done = len(costs)
        self._spent, self._means, self._names = Counter(_spent(costs)), MeanCurves(), PreferenceNames(preferences)
        self._of_soup: SummaryWriter | None = None
        if not os.path.exists(board.log_dir):  # overwriting the run has removed the open file
            board.close()
        board.add_custom_scalars(layout(preferences.weighted))
        _discard(board, self.done + 1)

    def start(self, request: SoupRequest) -> None:
        """Start the curves of a soup, if it is among the first."""
        if self.done < self.curves:
            self._of_soup = _renewed(self.board, STEPS, prompt_label(request.prompt), str(request.seed))

    def add_step(self, moment: Moment) -> None:
        """Log a denoising step."""
        values = step_values(moment, self._names)
        self._means.add(values, moment.step)
        if self._of_soup is not None:
            _add(self._of_soup, values, moment.step)

    def end(self, soup: Soup, with_pictures: bool) -> None:
        """Log the costs up to the end of a soup, and its pictures."""
        self.close()
        self.done += 1
        self._spent.update(_spent([cost_row_of(soup)]))
        _add(self.board, self._spent, self.done)
        if with_pictures:
            self.board.add_image("pictures", np.asarray(soup_sheet(soup)), self.done, dataformats="HWC")
        self.board.flush()

    def close(self) -> None:
        """Close the curves of the soup under way."""
        if self._of_soup is not None:
            self._of_soup.close()
            self._of_soup = None

    def finish(self, costs: Sequence[CostRow]) -> None:
        """Log the mean of the curves, and the costs of all processes from their cost rows."""
        if self.done > self.first:
            with _renewed(self.board, STEPS, f"mean from soup {self.first + 1} on") as board:
                for tag, value, step in self._means:
                    board.add_scalar(tag, value, step)
        if len(costs) > self.done:
            _add(self.board, _spent(costs), len(costs))


def log_front(
    board: SummaryWriter,
    run: Run,
    preferences: Preferences,
    settings: Mapping[str, Value],
    box: Box | None,
) -> None:
    """Log the figure of the front and a session for each preference, in place of earlier ones.

    Args:
        board: The writer of the run's event files.
        run: The run, with at least one soup.
        preferences: Preferences of the run.
        settings: Name of the method and its settings, which all sessions share.
        box: The box of hypervolume and utility, see :func:`hparams_of`.
    """
    names, soups = PreferenceNames(preferences), len(run.costs)
    with _renewed(board, FRONT) as front:
        if len(run.rewards) > 1:
            _add_figure(front, run, soups)
    for session in hparams_of(run, box):
        name = names[list(session.preference.values())]
        weights = {f"weight/{reward}": weight for reward, weight in session.preference.items()}
        board.add_hparams({**weights, **settings}, session.metrics, run_name=f"{FRONT}/{name}", global_step=soups)


def _add_figure(board: SummaryWriter, run: Run, step: int) -> None:
    if find_spec("matplotlib") is None:
        logger.warning("no Pareto front in TensorBoard without matplotlib: pip install 'srsoup-lightning[report]'")
        return
    board.add_figure("front", draw_front(run), step)


def _spent(costs: Sequence[CostRow]) -> dict[str, float]:
    return cost_values(SO_FAR, total(costs))


def _add(board: SummaryWriter, values: Mapping[str, float], step: int) -> None:
    for tag, value in values.items():
        board.add_scalar(tag, value, step)


def _renewed(board: SummaryWriter, *folders: str) -> SummaryWriter:
    """A writer in a folder within that of another one, without the event files of an earlier part of the run."""
    from torch.utils.tensorboard import SummaryWriter

    folder = os.path.join(board.log_dir, *folders)  # a path or the URL of remote storage
    for old in Path(folder).rglob("events.out.tfevents.*"):
        old.unlink()
    return SummaryWriter(folder)


def _discard(board: SummaryWriter, step: int) -> None:
    """Tell TensorBoard to ignore all that earlier parts of the run logged from a step on."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    event = Event(session_log=SessionLog(status=SessionLog.START))
    # Adding the layout has opened the file.
    board.file_writer.add_event(event, step)  # type: ignore[attr-defined]
