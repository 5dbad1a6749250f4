"""A run in TensorBoard and other loggers, while it goes on and when it is done."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from srsoup_lightning.callbacks.base import SoupCallback
from srsoup_lightning.callbacks.boards import Board, LoggerBoard, Summary
from srsoup_lightning.callbacks.layout import layout
from srsoup_lightning.callbacks.soup_log import SoupLog
from srsoup_lightning.callbacks.study import write_study
from srsoup_lightning.callbacks.tensorboard_board import TensorBoard
from srsoup_lightning.callbacks.writer import SampleWriter
from srsoup_lightning.data import SoupRequest
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.report.figure_style import to_picture
from srsoup_lightning.report.front_figure import draw_fronts_in_box
from srsoup_lightning.report.hparams import method_name, metric_names, metrics_of, settings_of
from srsoup_lightning.report.run_tables import config_markdown, costs_table, preferences_table
from srsoup_lightning.report.study import method_number, require_below, runs_below
from srsoup_lightning.report.trade_off import trade_off_curves
from srsoup_lightning.report.units import Box, require_box
from srsoup_lightning.runs.directory import cost_row_of, image_rows_of
from srsoup_lightning.runs.identity import described
from srsoup_lightning.runs.reading import Run, read_run
from srsoup_lightning.runs.rows import CostRow, ImageRow
from srsoup_lightning.samplers.result import OnStep, Soup

CURVES = "curves.jsonl"  # a row for each soup: prompt, seed, curves
logger = logging.getLogger(__name__)


class ParetoLogger(SoupCallback):
    """Logs a run to all loggers of the Trainer, and compares the runs of a log directory in TensorBoard.

    By the number of finished soups: their cost so far, and sheets of their pictures. By the denoising step, as the mean
    over soups: rewards of the candidates, closeness of the trajectories, costs. At the end: the rewards of each
    preference, the front, tables, and the settings and results of the run as hyperparameters and metrics.

    TensorBoard shows all of it in one folder for a run. Other loggers get all numbers, and pictures and tables if they
    have methods for them.

    The first process logs its own soups. The logs at the end cover all processes and all parts of the run, as read from
    the files of SampleWriter. Without a SampleWriter, they cover the soups of this process.

    Args:
        sheets: Number of soups whose pictures are logged, spread evenly over the run; 0 for none.
        box: {reward: [low, high]}: the box of hypervolume and utility, as for RunSummary. None leaves both out, because
            values in the extremes of one run can't be compared with those of another.
        study: Log directory whose runs are compared when this one ends: fronts in one figure, pictures side by side,
            and a table, in its folder ``study``. Runs are looked for at most two folders below it. True takes the
            folder above the run directory. False compares none. It needs a SampleWriter and a TensorBoardLogger.

    Raises:
        ValueError: A negative number.
    """

    def __init__(
        self, sheets: int = 20, box: dict[str, tuple[float, float]] | None = None, study: bool | str = True
    ) -> None:
        if sheets < 0:
            raise ValueError(f"sheets is {sheets}: give 0 or more")
        self.sheets, self.box, self.study = sheets, box, study
        self._log: SoupLog | None = None
        self._own_images: list[ImageRow] = []
        self._own_costs: list[CostRow] = []

    def on_run_setup(self, trainer: L.Trainer, module: SRSoupModule) -> None:
        """Check the box and the log directory before anything is sampled.

        Raises:
            ValueError: The box leaves out a reward, or a low is not below its high. Or the run is not in the log
                directory.
        """
        if self.box is not None:
            require_box(self.box, module.preferences.weighted)
        writer = _writer(trainer)
        if isinstance(self.study, str) and writer is not None:
            require_below(writer.directory(trainer).root, Path(self.study))
        self._log, self._own_images, self._own_costs = None, [], []

    def on_run_start(self, trainer: L.Trainer, module: SRSoupModule) -> OnStep | None:
        """Go on where an earlier part of the run ended."""
        if not (trainer.loggers and trainer.is_global_zero):
            return None
        self._log = self._new_log(trainer, module, int(sum(trainer.num_predict_batches)))
        return self._log.add_step

    def on_soup_start(self, request: SoupRequest) -> None:
        """Start the curves of the soup."""
        if self._log is not None:
            self._log.start()

    def on_soup_end(self, trainer: L.Trainer, soup: Soup, index: int) -> None:
        """Log the soup."""
        if self._log is None:
            return
        if _writer(trainer) is None:
            self._own_images += image_rows_of(soup)
            self._own_costs.append(cost_row_of(soup))
        self._log.end(soup)

    def on_soups_end(self, failed: bool) -> None:
        """Log what there is after an error."""
        if self._log is not None and failed:
            self._log.finish()

    def on_run_end(self, trainer: L.Trainer, module: SRSoupModule) -> None:
        """Log the results of the complete run, when all processes have written their soups."""
        if not trainer.loggers:
            return
        trainer.strategy.barrier("soups are written")
        if not trainer.is_global_zero:
            return
        run = self._run(trainer)
        log = self._log or self._new_log(trainer, module, 0)
        log.finish(self._summary(trainer, module, run) if run.images else None, run.costs)
        root = self._study_root(trainer)
        if root is not None and run.images:
            try:
                write_study(root, run.root, self.box)
            except (OSError, ValueError) as error:  # the run itself is done, and its results are on the disk
                logger.warning("no comparison of the runs in %s in TensorBoard: %s", root, error)

    def _new_log(self, trainer: L.Trainer, module: SRSoupModule, to_come: int) -> SoupLog:
        run, writer = self._run(trainer), _writer(trainer)
        spacing = -(-(len(run.costs) + to_come) // self.sheets) if self.sheets else 0
        table = None if writer is None else writer.directory(trainer).tensorboard / CURVES
        return SoupLog(list(_boards(trainer, module)), module.preferences, run, table, spacing)

    def _summary(self, trainer: L.Trainer, module: SRSoupModule, run: Run) -> Summary:
        root, method = self._study_root(trainer), method_name(described(module.sampler), run.adapters)
        number = 1 if root is None else method_number(method, runs_below(root))
        return Summary(
            soups=len(run.costs),
            curves=trade_off_curves(run, self.box),
            pictures=dict(_front(run, self.box)),
            tables={"rewards": preferences_table(run), "costs": costs_table(run)},
            settings=settings_of(module.sampler, " + ".join([module.base, *module.loras]), method, number),
            metrics=metrics_of(run, self.box),
        )

    def _study_root(self, trainer: L.Trainer) -> Path | None:
        writer = _writer(trainer)
        if self.study is False or writer is None or first_board(trainer) is None:
            return None
        return writer.directory(trainer).root.resolve().parent if self.study is True else Path(self.study)

    def _run(self, trainer: L.Trainer) -> Run:
        """Return the run so far. Without a SampleWriter, it has the soups of this process."""
        writer = _writer(trainer)
        if writer is None:
            return Run("", Path(), tuple(self._own_images), tuple(self._own_costs))
        return read_run(writer.directory(trainer).root)


def first_board(trainer: L.Trainer) -> TensorBoardLogger | None:
    """Return the first TensorBoardLogger of the Trainer, or None if it has none."""
    return next((logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)


def _boards(trainer: L.Trainer, module: SRSoupModule) -> Iterator[Board]:
    rewards, writer = module.preferences, _writer(trainer)
    for each in trainer.loggers:
        if isinstance(each, TensorBoardLogger):
            texts = {} if writer is None else {"config": config_markdown(writer.directory(trainer))}
            yield TensorBoard(each.log_dir, layout(rewards.weighted), texts, metric_names(tuple(rewards.rewards)))
        else:
            yield LoggerBoard(each)


def _front(run: Run, box: Box | None) -> Iterator[tuple[str, Image.Image]]:
    if len(run.rewards) < 2:
        return
    if find_spec("matplotlib") is None:
        logger.warning("no Pareto front in TensorBoard without matplotlib: pip install 'srsoup-lightning[report]'")
        return
    yield "front", to_picture(draw_fronts_in_box([run], box))


def _writer(trainer: L.Trainer) -> SampleWriter | None:
    found = (callback for callback in trainer.callbacks if isinstance(callback, SampleWriter))  # type: ignore[attr-defined]
    return next(found, None)
