"""The adapter of a fit is written after every round, beside a checkpoint from which the same command goes on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TypeGuard

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from srsoup_lightning.callbacks.base import from_first_process
from srsoup_lightning.callbacks.identity import begin, join
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.runs.adapter import AdapterFacts, used_adapters, write_adapter
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.identity import RunIdentity
from srsoup_lightning.runs.lock import RunLock
from srsoup_lightning.runs.spending import SharedCounts

LAST = "last"


class AdapterWriter(ModelCheckpoint):
    """Writes ``adapter/`` and ``checkpoints/last.ckpt`` of the run directory.

    The adapter is a LoRA that diffusers loads. ``adapter.json`` beside it says how it was trained and at which cost.
    The checkpoint holds the adapter, the optimizer and the state of the objective. It does not hold the base model.

    Args:
        root: The run directory. None takes the Trainer's ``default_root_dir``.
        overwrite: Remove the run that the directory already holds and start anew.

    Raises:
        FileExistsError: The directory holds another run, or a training that the Trainer does not go on with, or another
            process is running there.
        ValueError: Another callback takes checkpoints within a round.
    """

    def __init__(self, root: str | None = None, overwrite: bool = False) -> None:
        super().__init__(filename=LAST, save_on_train_epoch_end=True, enable_version_counter=False)
        self.root, self.overwrite = root, overwrite
        self._lock, self._trained = RunLock(), False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Take the directory before the model is loaded; all processes get the same error."""
        if not _tunes(pl_module, trainer):
            return
        run, self._trained = self.directory(trainer), False
        join(from_first_process(trainer, partial(self._take, trainer, run, pl_module)), run, pl_module)
        _require_whole_rounds(trainer)
        if pl_module.limited:
            SharedCounts(run.spending).begin(dict.fromkeys(pl_module.account.limits, 0))
            pl_module.account.share(SharedCounts(run.spending))
        self.dirpath = str(run.checkpoints)
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check that the Trainer goes on with the training that the directory holds, if it holds one.

        Raises:
            FileExistsError: It begins another one.
        """
        last = last_checkpoint(self.directory(trainer).root)
        if last is not None and _tunes(pl_module, trainer) and pl_module.finetuning and not pl_module.finetuning.rounds:
            raise FileExistsError(
                f"{self.directory(trainer).root} holds a training: go on with it by trainer.fit(..., "
                f"ckpt_path={str(last)!r}), give another default_root_dir, or overwrite=True to replace it"
            )
        self._trained = True
        super().on_train_start(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the checkpoint, then the adapter."""
        super().on_train_epoch_end(trainer, pl_module)
        self._write(trainer, pl_module)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the adapter again, because a callback may have put averaged weights in its place.

        A fit with no rounds left writes it where there is none.
        """
        if self._trained or not self.directory(trainer).adapter.exists():
            self._write(trainer, pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Release the directory."""
        super().on_exception(trainer, pl_module, exception)
        self._lock.release()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Release the directory."""
        super().teardown(trainer, pl_module, stage)
        self._lock.release()

    def directory(self, trainer: L.Trainer) -> RunDirectory:
        """The run directory."""
        return RunDirectory(self.root or trainer.default_root_dir)

    def _take(self, trainer: L.Trainer, run: RunDirectory, module: SRSoupModule) -> RunIdentity:
        self._lock.acquire(run)
        if self.overwrite:
            run.clear()
        elif next(run.cost_rows(), None) is not None:
            raise FileExistsError(
                f"{run.root} holds pictures of srsoup predict: give another --trainer.default_root_dir, or "
                "--writer.overwrite true to replace them"
            )
        return begin(run, trainer, module, any(run.checkpoints.glob("*")))

    def _write(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not (trainer.is_global_zero and isinstance(module, SRSoupModule) and module.finetuning and module.backbone):
            return
        weights = module.preferences.weights.mean(0).tolist()
        start = module.finetuning.training.lora.start
        begun_from = None if start is None else used_adapters({start: 1.0})[0].facts
        facts = AdapterFacts(
            base=module.base,
            objective=type(module.finetuning.objective).__name__,
            preference=dict(zip(module.preferences.rewards, weights, strict=True)),
            rounds=module.finetuning.rounds,
            costs=module.finetuning.costs,
            conditioned=module.finetuning.training.conditioning is not None,
            earlier={} if begun_from is None or start is None else begun_from.behind(start),
        )
        folder = self.directory(trainer).adapter
        write_adapter(folder, module.backbone.adapter_state(), module.backbone.adapter_metadata(), facts)


def last_checkpoint(root: str | Path) -> Path | None:
    """Return the checkpoint in a run directory that a training goes on from, or None if there is none."""
    path = RunDirectory(root).checkpoints / f"{LAST}{ModelCheckpoint.FILE_EXTENSION}"
    return path if path.is_file() else None


def _tunes(module: L.LightningModule, trainer: L.Trainer) -> TypeGuard[SRSoupModule]:
    return trainer.state.fn == TrainerFn.FITTING and isinstance(module, SRSoupModule)


def _require_whole_rounds(trainer: L.Trainer) -> None:
    """Check that no checkpoint is taken while the samples of a round are half used.

    Raises:
        ValueError: A callback takes one.
    """
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and (
            callback._every_n_train_steps > 0 or callback._train_time_interval is not None
        ):
            raise ValueError(
                "a ModelCheckpoint saves within a round, whose samples it does not hold: give it every_n_epochs"
            )
