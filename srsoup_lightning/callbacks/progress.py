"""A bar that moves with every denoising step."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from srsoup_lightning.data import SoupRequest
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.samplers.result import Moment
from srsoup_lightning.terminal import printable


class SoupProgress(Callback):
    """One bar over all soups of the first process, which says what is being made and what it has cost so far."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._done = 0
        self._doing = ""

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bar."""
        if not trainer.is_global_zero or not isinstance(pl_module, SRSoupModule):
            return
        columns = (TextColumn("{task.description}"), BarColumn(None), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress, self._done = Progress(*columns), 0
        self._task = self._progress.add_task("starting", total=sum(trainer.num_predict_batches))
        self._progress.start()
        pl_module.step_callbacks.append(self._move)

    def on_predict_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: SoupRequest,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Say which soup is next."""
        prompt = batch.prompt if len(batch.prompt) <= 40 else f"{batch.prompt[:39]}…"
        self._doing = printable(f"{prompt}, seed {batch.seed}")

    def on_predict_batch_end(self, *_: Any) -> None:  # noqa: ANN401 - the hook's own signature
        """Count the soup."""
        self._done += 1

    def _move(self, moment: Moment) -> None:
        if self._progress is not None:
            spent = f"{moment.ledger.total_queries:,} queries"
            self._progress.update(
                self._task,
                completed=self._done + moment.step / moment.steps,
                # A prompt is text, never markup.
                description=f"{self._doing}: step {moment.step}/{moment.steps}, {spent}".replace("[", r"\["),
            )

    def _stop(self, pl_module: L.LightningModule) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if isinstance(pl_module, SRSoupModule) and self._move in pl_module.step_callbacks:
            pl_module.step_callbacks.remove(self._move)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the bar down."""
        self._stop(pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Take the bar down before the error is shown."""
        self._stop(pl_module)
