"""``srsoup predict`` and ``srsoup plan``: LightningCLI over SRSoupModule and PromptDataModule."""

from __future__ import annotations

import inspect
import logging
import signal
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from srsoup_lightning.builtin import CONFIGS
from srsoup_lightning.callbacks import ParetoLogger, RunSummary, SampleWriter, SoupCallback, SoupProgress
from srsoup_lightning.cli.plan import SoupTrainer, Unloaded
from srsoup_lightning.cli.renamed import refuse_renamed_keys
from srsoup_lightning.cli.run_config import SaveRunConfig, saved_config
from srsoup_lightning.costs.limits import LimitError
from srsoup_lightning.data import PromptDataModule
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.spending import SharedCounts
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
)
UNLOADED = f"{Unloaded.__module__}.{Unloaded.__qualname__}"


class RunBoard(SoupCallback):
    """Makes the Trainer log to TensorBoard in the run directory.

    A logger that the Trainer is given opens its files before a callback can refuse the run. This callback comes last.
    """

    def on_run_setup(self, trainer: Trainer, module: SRSoupModule) -> None:
        """Add the logger."""
        folder = RunDirectory(trainer.default_root_dir).tensorboard
        trainer.loggers = [TensorBoardLogger(folder.parent, folder.name, version="", default_hp_metric=False)]


class SoupCLI(LightningCLI):
    """A method of the Trainer as a command. Files, progress, charts and summary are always on.

    Args:
        method: Name of the method.
        arguments: The command line, with the name of the method.

    Raises:
        ArgumentError: Options that the command does not have.
        LimitError: A limit or a budget ended the run.
    """

    def __init__(self, method: str, arguments: list[str]) -> None:
        self._method = method
        super().__init__(
            SRSoupModule,
            PromptDataModule,
            trainer_class=SoupTrainer,
            save_config_callback=SaveRunConfig,
            save_config_kwargs={"save_to_log_dir": False},
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=False,
            parser_kwargs={"prog": "srsoup", "exit_on_error": False},
            args=arguments,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Return the method, and its arguments that the CLI fills itself. Parsers of other methods would take time."""
        return {self._method: FILLED & set(inspect.signature(getattr(SoupTrainer, self._method)).parameters)}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks' options as ``--writer``, ``--progress``, ``--tensorboard`` and ``--summary``."""
        parser.add_lightning_class_args(SampleWriter, "writer")
        parser.add_lightning_class_args(SoupProgress, "progress")
        parser.add_lightning_class_args(ParetoLogger, "tensorboard")
        parser.add_lightning_class_args(RunSummary, "summary")
        parser.link_arguments("summary.box", "tensorboard.box")

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:  # noqa: ANN401
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "predict":
            # Pictures go to files. A long run must not keep them all in memory too.
            parser.set_defaults({"return_predictions": False})
        return parser

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - as in the base class
        """Make a Trainer. Its default logger is TensorBoard in the run directory."""
        if self._get(self.config_init, "trainer.logger") not in (True, None):
            return super().instantiate_trainer(**kwargs)
        trainer = super().instantiate_trainer(logger=False, **kwargs)
        trainer.callbacks.append(RunBoard())  # type: ignore[attr-defined]
        return trainer

    def before_instantiate_classes(self) -> None:
        """Check the config of a run that is continued; load no rewards for a plan without a probe.

        Raises:
            ArgumentError: The config in the run directory has options with old names.
        """
        config = self.config[self.subcommand]
        if self.subcommand == "predict" and not config.writer.overwrite:
            run = RunDirectory(config.trainer.default_root_dir)
            refuse_renamed_keys(saved_config(run), str(run.config))
        if self.subcommand == "plan" and not config.probe_models:
            config.model.rewards = {name: {"class_path": UNLOADED} for name in config.model.rewards}

    def after_predict(self) -> None:
        """Report that a limit ended the run, once, when all processes have written their finished soups.

        Raises:
            LimitError: A limit did.
        """
        run = RunDirectory(self.config.predict.writer.root or self.trainer.default_root_dir)
        reached = SharedCounts(run.spending).read().reached
        if reached and self.trainer.is_global_zero:
            made, asked = sum(1 for _ in run.cost_rows()), len(self.datamodule.requests)
            raise LimitError(
                f"{reached}; {made} of {asked} soups are finished and kept: raise it, and the same command goes on"
            )


def run_trainer(method: str, arguments: list[str]) -> None:
    """Run a command that is a method of the Trainer.

    Args:
        method: Name of the method.
        arguments: The command line, with the name of the method.

    Raises:
        ArgumentError: Options that the command does not have.
        FileNotFoundError: No such config.
        LimitError: A limit or a budget ended the run.
        SystemExit: SIGTERM ended the run.
    """
    try:
        with silenced(LEVELS, ADVICE):
            SoupCLI(method, _with_config_paths(arguments))
    except SIGTERMException:  # Lightning's own has no code
        raise SystemExit(128 + signal.SIGTERM) from None


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
