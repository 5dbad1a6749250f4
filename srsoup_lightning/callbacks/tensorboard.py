"""A run in TensorBoard, while it goes on and when it is done."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from srsoup_lightning.callbacks.event_files import SoupLog, log_front
from srsoup_lightning.callbacks.writer import SampleWriter
from srsoup_lightning.data import SoupRequest
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.report.hparams import settings_of
from srsoup_lightning.report.tables import hypervolume_box
from srsoup_lightning.runs.directory import Row, ledger_row_of, sample_rows_of
from srsoup_lightning.samplers.result import Soup


class ParetoLogger(Callback):
    """Logs a run to the first TensorBoardLogger of the Trainer; where there is none it does nothing.

    By the number of soups done: what they have cost, and sheets of their pictures. By the denoising step, for the first
    soups and for the mean of all: rewards of the candidates, closeness of the trajectories, costs. At the end: the
    Pareto front, and a session of HParams for every preference.

    The first process logs its own soups. What comes at the end is of all processes and attempts, by what SampleWriter
    wrote; without one, of the soups that this process made.

    Args:
        sheets: Of how many soups the pictures are logged, spread evenly over the run; 0 for none.
        curves: How many soups have curves of their own, the run's first; the mean of all is logged in any case.
        box: {reward: [low, high]}: the box of hypervolume and utility, as for RunSummary; None leaves both out, for
            in a run's own extremes they compare with no other run.

    Raises:
        ValueError: A negative number.
    """

    def __init__(self, sheets: int = 20, curves: int = 4, box: dict[str, tuple[float, float]] | None = None) -> None:
        for name, value in (("sheets", sheets), ("curves", curves)):
            if value < 0:
                raise ValueError(f"{name} is {value}: give 0 or more")
        self.sheets, self.curves, self.box = sheets, curves, box
        self._log: SoupLog | None = None
        self._made_rows: list[Row] = []
        self._made_costs: list[Row] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse box that don't fit the rewards before anything is sampled.

        Raises:
            ValueError: Box that leave out a reward, or whose low isn't below high.
        """
        if self.box is not None and isinstance(pl_module, SRSoupModule):
            hypervolume_box(list(pl_module.rewards), self.box)
        self._log, self._made_rows, self._made_costs = None, [], []

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on where an earlier attempt ended."""
        board = _board(trainer)
        if board is not None and trainer.is_global_zero and isinstance(pl_module, SRSoupModule):
            self._log = SoupLog(board.experiment, pl_module.preferences, self._costs(trainer), self.curves)
            pl_module.step_callbacks.append(self._log.look)

    def on_predict_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: SoupRequest,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Start the curves of the soup."""
        if self._log is not None:
            self._log.begin(batch)

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Soup,
        batch: SoupRequest,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Log the soup."""
        if self._log is None:
            return
        if _writer(trainer) is None:
            self._made_rows += sample_rows_of(outputs)
            self._made_costs.append(ledger_row_of(outputs))
        soups = sum(trainer.num_predict_batches)
        due = self.sheets > 0 and batch_idx % -(-soups // self.sheets) == 0
        self._log.end(outputs, with_pictures=due)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop listening."""
        self._stop(pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Stop listening, and leave off with the soup under way."""
        self._stop(pl_module)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Log what the whole run came to, once all processes have written their soups."""
        board = _board(trainer)
        if board is None or stage != "predict" or not isinstance(pl_module, SRSoupModule):
            return
        trainer.strategy.barrier("soups are written")
        if not trainer.is_global_zero:
            return
        costs = self._costs(trainer)
        if self._log is not None:
            self._log.finish(costs)
        if costs:
            rows, settings = self._rows(trainer), settings_of(pl_module.sampler)
            log_front(board.experiment, rows, costs, pl_module.preferences, settings, self.box)

    def _costs(self, trainer: L.Trainer) -> list[Row]:
        """Rows of the ledger: of the run so far, or if nobody writes them, of the soups made here."""
        writer = _writer(trainer)
        return self._made_costs if writer is None else list(writer.directory(trainer).ledger_rows())

    def _rows(self, trainer: L.Trainer) -> list[Row]:
        """Rows of the samples, likewise."""
        writer = _writer(trainer)
        return self._made_rows if writer is None else list(writer.directory(trainer).sample_rows())

    def _stop(self, module: L.LightningModule) -> None:
        if self._log is not None:
            self._log.close()
            if isinstance(module, SRSoupModule) and self._log.look in module.step_callbacks:
                module.step_callbacks.remove(self._log.look)


def _board(trainer: L.Trainer) -> TensorBoardLogger | None:
    return next((logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)


def _writer(trainer: L.Trainer) -> SampleWriter | None:
    found = (callback for callback in trainer.callbacks if isinstance(callback, SampleWriter))  # type: ignore[attr-defined]
    return next(found, None)
