"""``srsoup predict``: the pictures of every prompt and seed for all preferences."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from srsoup_lightning.cli.renamed import refuse_renamed_keys
from srsoup_lightning.cli.run_config import saved_config
from srsoup_lightning.cli.trainer_command import TrainerCLI
from srsoup_lightning.costs.limits import LimitError
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.spending import SharedCounts


class PredictCLI(TrainerCLI):
    """Command line of ``predict``. Files, progress, charts and summary are always on. See :class:`TrainerCLI`."""

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:  # noqa: ANN401
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        # Pictures go to files. A long run must not keep them all in memory too.
        parser.set_defaults({"return_predictions": False})
        return parser

    def before_instantiate_classes(self) -> None:
        """Check the config of a run that is continued.

        Raises:
            ArgumentError: The config in the run directory has options with old names.
        """
        super().before_instantiate_classes()
        config = self.config.predict
        if not config.writer.overwrite:
            run = RunDirectory(config.trainer.default_root_dir)
            refuse_renamed_keys(saved_config(run), str(run.config))

    def after_predict(self) -> None:
        """Report that soups are missing, once, when all processes have written their finished ones.

        Raises:
            LimitError: A limit ended the run.
            RuntimeError: Something else did, such as a callback that raised StopIteration.
        """
        if not self.trainer.is_global_zero:
            return
        run = RunDirectory(self.trainer.default_root_dir)
        reached, asked = SharedCounts(run.spending).read().reached, self.datamodule.requests
        made = {row.key for row in run.cost_rows()}
        if reached:
            raise LimitError(
                f"{reached}; {len(made)} of {len(asked)} soups are finished and kept: raise it, and the same command "
                "goes on"
            )
        missing = sum(request not in made for request in asked)
        if missing and not _asks_for_less(self.trainer):
            raise RuntimeError(f"the run has ended, and {missing} of {len(asked)} soups are missing in {run.root}")


def _asks_for_less(trainer: Trainer) -> bool:
    """Whether an option of the Trainer leaves out soups. Its limit is a share, or a whole number of soups."""
    limit: float | int = getattr(trainer, "limit_predict_batches", 1.0)
    return isinstance(limit, int) or limit < 1
