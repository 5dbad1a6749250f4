"""Base of the callbacks: hooks of runs that make soups."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard, TypeVar, cast

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn

from srsoup_lightning.data import SoupRequest
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.samplers.result import OnStep, Soup

Result = TypeVar("Result")


class SoupCallback(Callback):
    """Callback that acts in ``trainer.predict`` of an SRSoupModule and does nothing in other stages and for others.

    Subclasses override the hooks of this class and none of Lightning's. A run calls them in the order in which they
    stand here. A process without soups to make calls ``on_run_setup`` and ``on_run_end`` alone.
    """

    _on_step: OnStep | None = None

    def on_run_setup(self, trainer: L.Trainer, module: SRSoupModule) -> None:
        """Prepare the run in every process, before the model is loaded."""

    def on_run_start(self, trainer: L.Trainer, module: SRSoupModule) -> OnStep | None:
        """Start the run of a process, when the model is loaded.

        Returns:
            The callable that is told after every denoising step of this process; None for no such callable.
        """

    def on_soup_start(self, request: SoupRequest) -> None:
        """Start one soup."""

    def on_soup_end(self, trainer: L.Trainer, soup: Soup, index: int) -> None:
        """Take a finished soup. The index counts the soups of this process in this run, from 0."""

    def on_soups_end(self, failed: bool) -> None:
        """Leave off: all soups of this process are made, or an error has ended the run."""

    def on_run_end(self, trainer: L.Trainer, module: SRSoupModule) -> None:
        """End a run without an error in every process."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Lightning's hook."""
        if _makes_soups(pl_module, trainer):
            self.on_run_setup(trainer, pl_module)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning's hook."""
        if _makes_soups(pl_module, trainer):
            self._on_step = self.on_run_start(trainer, pl_module)
            if self._on_step is not None:
                pl_module.step_callbacks.append(self._on_step)

    def on_predict_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: SoupRequest,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Lightning's hook."""
        if _makes_soups(pl_module, trainer):
            self.on_soup_start(batch)

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Soup,
        batch: SoupRequest,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Lightning's hook."""
        if _makes_soups(pl_module, trainer):
            self.on_soup_end(trainer, outputs, batch_idx)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning's hook."""
        self._leave_off(trainer, pl_module, failed=False)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Lightning's hook."""
        self._leave_off(trainer, pl_module, failed=True)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Lightning's hook."""
        if _makes_soups(pl_module, trainer):
            self.on_run_end(trainer, pl_module)

    def _leave_off(self, trainer: L.Trainer, module: L.LightningModule, failed: bool) -> None:
        if _makes_soups(module, trainer):
            if self._on_step in module.step_callbacks:
                module.step_callbacks.remove(self._on_step)
            self._on_step = None
            self.on_soups_end(failed)


def from_first_process(trainer: L.Trainer, act: Callable[[], Result]) -> Result:
    """Return the result of a call that the first process makes, in all processes.

    Raises:
        OSError, ValueError: The call raised it. All processes raise it then.
    """
    answer: tuple[Result | None, Exception | None] = (None, None)
    if trainer.is_global_zero:
        try:
            answer = (act(), None)
        except (OSError, ValueError) as error:
            answer = (None, error)
    result, fault = trainer.strategy.broadcast(answer)
    if fault is not None:
        raise fault
    return cast("Result", result)


def _makes_soups(module: L.LightningModule, trainer: L.Trainer) -> TypeGuard[SRSoupModule]:
    return trainer.state.fn == TrainerFn.PREDICTING and isinstance(module, SRSoupModule)
