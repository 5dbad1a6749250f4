"""``config.yaml`` of a run directory: written for a new run, compared for one that is continued."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, cast

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from srsoup_lightning.costs.limits import Limits
from srsoup_lightning.diffusion.loading.options import Loading
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.oracle.policy import OraclePolicy
from srsoup_lightning.runs.changes import changes, operational_options
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.files import write_atomically

MAX_BATCH = "model.sampler.init_args.max_batch"


class Continued(NamedTuple):
    """Facts about the run in the directory, for all processes.

    Attributes:
        changed: Options that changed the pictures, in words; "" if there are none.
        max_batch: Its ``max_batch``. None for a new run.
    """

    changed: str = ""
    max_batch: object = None


class SaveRunConfig(SaveConfigCallback):
    """Writes ``<root>/config.yaml``, which has everything that another run needs to make the same pictures.

    ``max_batch: auto`` is written as the number that it came to, because pictures depend on it to the last bit. A run
    that is continued takes the number of its first part.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare with the config in the directory, in all processes alike, then write. The writer comes before.

        Raises:
            ValueError: The directory holds soups of another model, sampler, reward or preference.
        """
        module = cast("SRSoupModule", pl_module)
        found = trainer.strategy.broadcast(self._continued(trainer, module) if trainer.is_global_zero else Continued())
        if found.changed:
            raise ValueError(
                f"{trainer.default_root_dir} holds a run of another config ({found.changed}): change it back, give "
                "another --trainer.default_root_dir, or --writer.overwrite true to replace it"
            )
        if self._is_auto() and isinstance(found.max_batch, int):
            module.max_batch = self.config[MAX_BATCH] = found.max_batch
        elif self._is_auto():
            module.on_max_batch = partial(self._save_max_batch, trainer, module)
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the config beside the results."""
        write_atomically(RunDirectory(trainer.default_root_dir).config, self._dump().encode())

    def _save_max_batch(self, trainer: Trainer, module: SRSoupModule, size: int) -> None:
        """Write the number that "auto" came to. Other processes wait for it, so that no soup is there before it."""
        self.config[MAX_BATCH] = size
        self.save_config(trainer, module, "predict")

    def _dump(self) -> str:
        return self.parser.dump(self.config, skip_none=False)

    def _is_auto(self) -> bool:
        return self.config.get(MAX_BATCH) == "auto"

    def _continued(self, trainer: Trainer, module: SRSoupModule) -> Continued:
        old = saved_config(RunDirectory(trainer.default_root_dir))
        if old is None:
            return Continued()
        kinds: list[type] = [Loading, OraclePolicy, Limits, type(module.sampler)]
        if module.tuning is not None:
            kinds.append(type(module.tuning.objective))
        options = frozenset().union(*map(operational_options, kinds))
        changed = changes(old, yaml.safe_load(self._dump()), options)
        return Continued(changed, _value(old, MAX_BATCH))


def saved_config(run: RunDirectory) -> dict[str, Any] | None:
    """The config of the run in a directory, or None if the directory holds no finished soup and no checkpoint."""
    holds = next(run.cost_rows(), None) is not None or any(run.checkpoints.glob("*"))
    if not run.config.is_file() or not holds:
        return None
    return yaml.safe_load(run.config.read_text(encoding="utf-8"))


def _value(config: object, key: str) -> object:
    for name in key.split("."):
        config = config.get(name) if isinstance(config, Mapping) else None
    return config
