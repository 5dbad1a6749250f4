"""``config.yaml`` of a run directory."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from srsoup_lightning.cli.yaml_file import read_yaml
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.files import write_atomically

MAX_BATCH = "model.sampler.init_args.max_batch"


class SaveRunConfig(SaveConfigCallback):
    """Writes ``<root>/config.yaml``, which has everything that another run needs to make the same pictures.

    ``max_batch: auto`` is written as the number that it came to, because pictures depend on it to the last bit. A run
    that is continued takes the number of its first part. The writer's setup comes before, which refuses another run.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the config, and once more when the size of the batches is chosen."""
        module = cast("SRSoupModule", pl_module)
        if self.config.get(MAX_BATCH) == "auto" and module.max_batch is not None:
            self.config[MAX_BATCH] = module.max_batch
        elif self.config.get(MAX_BATCH) == "auto":
            module.max_batch_callbacks.append(partial(self._save_max_batch, trainer, module))
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the config beside the results."""
        write_atomically(
            RunDirectory(trainer.default_root_dir).config, self.parser.dump(self.config, skip_none=False).encode()
        )

    def _save_max_batch(self, trainer: Trainer, module: SRSoupModule, size: int) -> None:
        """Write the number that "auto" came to. Other processes wait for it, so that no soup is there before it."""
        self.config[MAX_BATCH] = size
        self.save_config(trainer, module, "predict")


def saved_config(run: RunDirectory) -> dict[str, Any] | None:
    """The config of the run in a directory, or None if the directory holds no finished soup and no checkpoint.

    Raises:
        OSError: The file can't be read.
        ValueError: It is damaged.
    """
    holds = next(run.cost_rows(), None) is not None or any(run.checkpoints.glob("*"))
    if not run.config.exists() or not holds:
        return None
    config = read_yaml(run.config)
    if not isinstance(config, dict):
        raise ValueError(f"{run.config} is damaged (it has no options): restore it, or remove it")
    return config
