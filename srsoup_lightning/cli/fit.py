"""``srsoup fit``: fine-tuning of a LoRA, which goes on where it was stopped."""

from __future__ import annotations

from typing import Any, ClassVar

from srsoup_lightning.callbacks.adapter_writer import last_checkpoint
from srsoup_lightning.cli.trainer_command import TrainerCLI
from srsoup_lightning.costs.limits import LimitError


class FitCLI(TrainerCLI):
    """Command line of ``fit``. See :class:`TrainerCLI`."""

    defaults: ClassVar[dict[str, object]] = {
        "enable_checkpointing": True,
        "enable_progress_bar": True,
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
    }

    def before_instantiate_classes(self) -> None:
        """Go on from the checkpoint in the run directory, if there is one."""
        super().before_instantiate_classes()
        config = self.config.fit
        if config.ckpt_path is None and not config.writer.overwrite:
            last = last_checkpoint(config.trainer.default_root_dir)
            config.ckpt_path = None if last is None else str(last)

    def fit(self, model: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as in the base class
        """Run the Trainer.

        Raises:
            LimitError: A limit or a budget ended the training.
        """
        try:
            self.trainer.fit(model, **kwargs)
        except LimitError as reached:
            raise LimitError(
                f"{reached}; the adapter of the last complete round is kept: raise it, and the same command goes on"
            ) from None
