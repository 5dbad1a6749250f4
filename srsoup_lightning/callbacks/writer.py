"""Every soup to the run directory as soon as it is done."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from srsoup_lightning.run_directory import RunDirectory
from srsoup_lightning.samplers.base import Soup


class SampleWriter(Callback):
    """Writes pictures, scores and costs of each soup when it is done; what is written stays, whatever comes after.

    Args:
        root: The run directory; None takes the Trainer's ``default_root_dir``.
        overwrite: Remove the run that a directory already holds instead of refusing it.

    Raises:
        FileExistsError: The directory holds a run and `overwrite` is false (raised before anything is sampled).
    """

    def __init__(self, root: str | None = None, overwrite: bool = False) -> None:
        self.root, self.overwrite = root, overwrite

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse or clear a directory that is in use."""
        run = self._run(trainer)
        if trainer.is_global_zero and run.samples.exists():
            if not self.overwrite:
                raise FileExistsError(
                    f"{run.root} already holds a run: give another --trainer.default_root_dir, "
                    "or --writer.overwrite true to replace it"
                )
            run.clear()
        trainer.strategy.barrier("run directory is free")

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
        self._run(trainer).write(outputs)

    def _run(self, trainer: L.Trainer) -> RunDirectory:
        return RunDirectory(self.root or trainer.default_root_dir)
