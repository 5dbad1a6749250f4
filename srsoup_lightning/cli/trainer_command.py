"""Commands that are methods of the Trainer: LightningCLI over SRSoupModule and PromptDataModule."""

from __future__ import annotations

import inspect
import logging
import signal
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from torch.multiprocessing.spawn import ProcessExitedException

from srsoup_lightning.builtin import CONFIGS
from srsoup_lightning.cli.run_config import SaveRunConfig
from srsoup_lightning.data import PromptDataModule
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.termination import TERMINATED
from srsoup_lightning.terminal import silenced

TRAINER_DEFAULTS = {
    "default_root_dir": "runs/default",
    "logger": True,  # see RunBoard
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
}
FILLED = {"model", "dataloaders", "datamodule"}  # arguments that LightningCLI fills itself
LEVELS = {  # lowest level of messages in a terminal that shows progress
    "lightning.pytorch": logging.WARNING,
    "lightning.fabric": logging.WARNING,
    SRSoupModule.__module__: logging.ERROR,  # the command says itself that a limit is reached
}
ADVICE = (
    ".*does not have many workers.*",
    ".*LightningCLI's args parameter.*",
    ".*LeafSpec.*",
    ".*Total length of .DataLoader. across ranks is zero.*",  # where all soups are finished
    ".*in eval mode at the start of training.*",  # as they must be
    ".*recommended to use .*sync_dist=True.*",  # all processes have the same costs
    ".*The dirpath has changed.*",  # a fit goes on from the checkpoint of another directory
    ".*Checkpoint directory .* exists and is not empty.*",  # where a fit goes on
    ".*WeightAveraging callback with a model that overrides.*",  # the adapter is there before the average
)


class RunBoard(Callback):
    """Makes the Trainer log to TensorBoard in the run directory.

    A logger that the Trainer is given opens its files before a callback can refuse the run. This callback comes last.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Add the logger."""
        folder = RunDirectory(trainer.default_root_dir).tensorboard
        trainer.loggers = [TensorBoardLogger(folder.parent, folder.name, version="", default_hp_metric=False)]


class TrainerCLI(LightningCLI):
    """A method of the Trainer as a command.

    Args:
        method: Name of the method.
        arguments: The command line, with the name of the method.

    Raises:
        ArgumentError: Options that the command does not have.
        LimitError: A limit or a budget ended the run.
    """

    trainer_type: ClassVar[type[Trainer]] = Trainer
    defaults: ClassVar[dict[str, object]] = {}
    """Defaults of the Trainer's options in this command."""

    def __init__(self, method: str, arguments: list[str]) -> None:
        self._method = method
        super().__init__(
            SRSoupModule,
            PromptDataModule,
            trainer_class=self.trainer_type,
            save_config_callback=SaveRunConfig,
            save_config_kwargs={"save_to_log_dir": False},
            trainer_defaults=TRAINER_DEFAULTS | self.defaults,
            seed_everything_default=False,
            parser_kwargs={"prog": "srsoup", "exit_on_error": False},
            args=arguments,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Return the method, and its arguments that the CLI fills itself. Parsers of other methods would take time."""
        return {self._method: FILLED & set(inspect.signature(getattr(self.trainer_type, self._method)).parameters)}

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - as in the base class
        """Make a Trainer. Its default logger is TensorBoard in the run directory."""
        if self._get(self.config_init, "trainer.logger") not in (True, None):
            return super().instantiate_trainer(**kwargs)
        trainer = super().instantiate_trainer(logger=False, **kwargs)
        trainer.callbacks.append(RunBoard())  # type: ignore[attr-defined]
        return trainer


def run_trainer(method: str, cli: str, arguments: list[str]) -> None:
    """Run a command that is a method of the Trainer.

    Args:
        method: Name of the method.
        cli: "module:name" of its :class:`TrainerCLI`.
        arguments: The command line, with the name of the method.

    Raises:
        ArgumentError: Options that the command does not have.
        FileNotFoundError: No such config.
        LimitError: A limit or a budget ended the run.
        SystemExit: SIGTERM ended the run.
    """
    try:
        with silenced(LEVELS, ADVICE):
            module, _, name = cli.partition(":")
            getattr(import_module(module), name)(method, _with_config_paths(arguments))
    except ProcessExitedException as ended:  # of a strategy that forks or spawns the processes
        if ended.exit_code not in (TERMINATED, -signal.SIGTERM):
            raise
        raise SystemExit(TERMINATED) from ended


def _with_config_paths(arguments: list[str]) -> list[str]:
    """Arguments with the names of builtin configs replaced by their paths."""
    resolved = []
    for previous, argument in zip(["", *arguments], arguments, strict=False):
        flag, equals, name = argument.partition("=")
        if previous in ("--config", "-c"):
            resolved.append(_config_path(argument))
        elif flag == "--config" and equals:
            resolved.append(f"--config={_config_path(name)}")
        else:
            resolved.append(argument)
    return resolved


def _config_path(name: str) -> str:
    builtin = CONFIGS.find(name)
    if builtin is not None:
        return str(builtin)
    if not Path(name).is_file():
        raise FileNotFoundError(
            f"no config {name!r}: give a path or the name of a builtin config ({', '.join(CONFIGS.names())})"
        )
    return name
