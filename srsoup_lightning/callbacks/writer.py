"""Every soup to the run directory as soon as it is done, and none made twice."""

from __future__ import annotations

from typing import Any

import lightning as L
from filelock import FileLock, Timeout
from lightning.pytorch.callbacks import Callback

from srsoup_lightning.costs.limits import spent_by
from srsoup_lightning.data import PromptDataModule, SoupRequest
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.runs.directory import Key, Row, RunDirectory, preference_weights
from srsoup_lightning.runs.spending import SharedCounts
from srsoup_lightning.samplers.result import Soup


class SampleWriter(Callback):
    """Writes pictures, scores and costs of each soup when it is done; what is written stays, whatever comes after.

    A directory that holds a part of the run already is continued: finished soups, with their rows and whole pictures,
    are not made again.

    Args:
        root: The run directory; None takes the Trainer's ``default_root_dir``.
        overwrite: Remove the run that a directory already holds and start anew.

    Raises:
        FileExistsError: The directory holds another run, or one that is still running (raised before anything is
            sampled).
        ValueError: A table or spending.json in it is damaged.
    """

    def __init__(self, root: str | None = None, overwrite: bool = False) -> None:
        self.root, self.overwrite = root, overwrite
        self._lock: FileLock | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Take the directory, and tell the data which soups are there; all processes learn the same or fail alike."""
        found: tuple[list[Key], Exception | None] = ([], None)
        if trainer.is_global_zero:
            try:
                found = (self._take(trainer, pl_module), None)
            except (OSError, ValueError) as error:
                found = ([], error)
        finished, fault = trainer.strategy.broadcast(found)
        if fault is not None:
            raise fault
        if isinstance(pl_module, SRSoupModule) and self.directory(trainer).spending.is_file():
            pl_module.account.share(SharedCounts(self.directory(trainer).spending))
        if (data := _prompts(trainer)) is not None:
            data.finished = frozenset(SoupRequest(*key) for key in finished)

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Soup,
        batch: Any,  # noqa: ANN401 - the hook's own signature
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the soup."""
        self.directory(trainer).write(outputs)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Make one table of those of all processes, and let go of the directory."""
        trainer.strategy.barrier("soups are written")
        if trainer.is_global_zero:
            self.directory(trainer).unite()
        self._release()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Let go of the directory."""
        self._release()

    def directory(self, trainer: L.Trainer) -> RunDirectory:
        """Where this process writes."""
        return RunDirectory(self.root or trainer.default_root_dir, trainer.global_rank)

    def _take(self, trainer: L.Trainer, module: L.LightningModule) -> list[Key]:
        """Lock and clean the directory; the soups that it holds."""
        run = self.directory(trainer)
        run.root.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(run.lock)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise FileExistsError(
                f"another process is running in {run.root}: wait for it, or give another --trainer.default_root_dir"
            ) from None
        if self.overwrite:
            run.clear()
        finished = run.recover()
        if finished:
            _refuse_another_run(run, finished, trainer, module)
        if isinstance(module, SRSoupModule) and module.bounded:
            spent = spent_by(run.ledger_rows())
            SharedCounts(run.spending).begin({name: spent.get(name, 0) for name in module.account.bounds})
        return list(finished)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _prompts(trainer: L.Trainer) -> PromptDataModule | None:
    data = getattr(trainer, "datamodule", None)
    return data if isinstance(data, PromptDataModule) else None


def _refuse_another_run(
    run: RunDirectory, finished: dict[Key, list[Row]], trainer: L.Trainer, module: L.LightningModule
) -> None:
    """Check that the soups in the directory are among those asked for, with the same preferences.

    Raises:
        FileExistsError: They are not.
    """
    way_out = "give another --trainer.default_root_dir, or --writer.overwrite true to replace it"
    data = _prompts(trainer)
    if data is None or not isinstance(module, SRSoupModule):
        raise FileExistsError(f"{run.root} already holds a run, which only a PromptDataModule can continue: {way_out}")
    asked = set(data.requests)
    preferences = module.preferences
    expected = [preference_weights(preferences.rewards, weights) for weights in preferences.weights.tolist()]
    for key, rows in finished.items():
        if key not in asked:
            raise FileExistsError(f"{run.root} holds prompt {key[0]!r}, seed {key[1]}, not asked for now: {way_out}")
        if [row["preference"] for row in rows] != expected:
            raise FileExistsError(f"{run.root} holds a run of other preferences: {way_out}")
