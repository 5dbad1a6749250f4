"""A run in TensorBoard, while it goes on and when it is done."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

from srsoup_lightning.callbacks.base import SoupCallback
from srsoup_lightning.callbacks.event_files import SoupLog, log_front
from srsoup_lightning.callbacks.writer import SampleWriter
from srsoup_lightning.data import SoupRequest
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.report.hparams import settings_of
from srsoup_lightning.report.units import require_box
from srsoup_lightning.runs.directory import cost_row_of, image_rows_of
from srsoup_lightning.runs.reading import Run, read_run
from srsoup_lightning.runs.rows import CostRow, ImageRow
from srsoup_lightning.samplers.result import OnStep, Soup


class ParetoLogger(SoupCallback):
    """Logs a run to the first TensorBoardLogger of the Trainer, and nothing if it has none.

    By the number of finished soups: their cost so far, and sheets of their pictures. By the denoising step, for the
    first soups and as the mean of all: rewards of the candidates, closeness of the trajectories, costs. At the end: the
    Pareto front, and a session of HParams for every preference.

    The first process logs its own soups. The logs at the end cover all processes and all parts of the run, as read from
    the files of SampleWriter. Without a SampleWriter, they cover the soups of this process.

    Args:
        sheets: Number of soups whose pictures are logged, spread evenly over the run; 0 for none.
        curves: Number of soups with curves of their own, the first of the run. The mean of all is logged in any case.
        box: {reward: [low, high]}: the box of hypervolume and utility, as for RunSummary. None leaves both out, because
            values in the extremes of one run can't be compared with those of another.

    Raises:
        ValueError: A negative number.
    """

    def __init__(self, sheets: int = 20, curves: int = 4, box: dict[str, tuple[float, float]] | None = None) -> None:
        for name, value in (("sheets", sheets), ("curves", curves)):
            if value < 0:
                raise ValueError(f"{name} is {value}: give 0 or more")
        self.sheets, self.curves, self.box = sheets, curves, box
        self._log: SoupLog | None = None
        self._own_images: list[ImageRow] = []
        self._own_costs: list[CostRow] = []

    def on_run_setup(self, trainer: L.Trainer, module: SRSoupModule) -> None:
        """Check the box before anything is sampled.

        Raises:
            ValueError: The box leaves out a reward, or a low is not below its high.
        """
        if self.box is not None:
            require_box(self.box, module.preferences.weighted)
        self._log, self._own_images, self._own_costs = None, [], []

    def on_run_start(self, trainer: L.Trainer, module: SRSoupModule) -> OnStep | None:
        """Go on where an earlier part of the run ended."""
        board = first_board(trainer)
        if board is None or not trainer.is_global_zero:
            return None
        self._log = SoupLog(board.experiment, module.preferences, self._run(trainer).costs, self.curves)
        return self._log.add_step

    def on_soup_start(self, request: SoupRequest) -> None:
        """Start the curves of the soup."""
        if self._log is not None:
            self._log.start(request)

    def on_soup_end(self, trainer: L.Trainer, soup: Soup, index: int) -> None:
        """Log the soup."""
        if self._log is None:
            return
        if _writer(trainer) is None:
            self._own_images += image_rows_of(soup)
            self._own_costs.append(cost_row_of(soup))
        soups = sum(trainer.num_predict_batches)
        due = self.sheets > 0 and index % -(-soups // self.sheets) == 0
        self._log.end(soup, with_pictures=due)

    def on_soups_end(self, failed: bool) -> None:
        """Close the curves of an abandoned soup."""
        if self._log is not None:
            self._log.close()

    def on_run_end(self, trainer: L.Trainer, module: SRSoupModule) -> None:
        """Log the results of the complete run, when all processes have written their soups."""
        board = first_board(trainer)
        if board is None:
            return
        trainer.strategy.barrier("soups are written")
        if not trainer.is_global_zero:
            return
        settings = settings_of(module.sampler)
        run = self._run(trainer, str(settings["method"]))
        if self._log is not None:
            self._log.finish(run.costs)
        if run.costs:
            log_front(board.experiment, run, module.preferences, settings, self.box)

    def _run(self, trainer: L.Trainer, name: str = "") -> Run:
        """Return the run so far. Without a SampleWriter, it has the soups of this process."""
        writer = _writer(trainer)
        if writer is None:
            return Run(name, Path(), tuple(self._own_images), tuple(self._own_costs))
        return read_run(writer.directory(trainer).root, name)


def first_board(trainer: L.Trainer) -> TensorBoardLogger | None:
    """Return the first TensorBoardLogger of the Trainer, or None if it has none."""
    return next((logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)


def _writer(trainer: L.Trainer) -> SampleWriter | None:
    found = (callback for callback in trainer.callbacks if isinstance(callback, SampleWriter))  # type: ignore[attr-defined]
    return next(found, None)
