"""The command line: LightningCLI over SRSoupModule and PromptDataModule, with shipped configs by name."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from rich.console import Console

from srsoup_lightning.builtin import CONFIGS
from srsoup_lightning.callbacks import ParetoLogger, RunSummary, SampleWriter, SoupProgress
from srsoup_lightning.cli.plan import SoupTrainer, Unloaded
from srsoup_lightning.cli.tools import TOOLS, run_tool
from srsoup_lightning.costs.account import LimitError
from srsoup_lightning.data import PromptDataModule
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.runs.changes import changes
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.files import write_atomically
from srsoup_lightning.runs.spending import SharedCounts
from srsoup_lightning.samplers import RewardError
from srsoup_lightning.terminal import hushed, printable
from srsoup_lightning.version import __version__

TRAINER_DEFAULTS = {
    "default_root_dir": "runs/default",
    "logger": True,  # see RunBoard
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
}
COMMANDS = {"predict": LightningCLI.subcommands()["predict"], "plan": {"model", "datamodule"}}  # of the Trainer
REACHED = 3  # exit code
STOPPED = "{}: what was finished is kept, and the same command goes on from there"
EXPECTED = (ValueError, OSError, ModuleNotFoundError, RewardError)  # their messages say what is wrong and what to do
LEVELS = {  # what may reach a terminal that shows progress
    "lightning.pytorch": logging.WARNING,
    "lightning.fabric": logging.WARNING,
    SRSoupModule.__module__: logging.ERROR,  # that a bound is reached is said at the end
}
ADVICE = (
    ".*does not have many workers.*",
    ".*LightningCLI's args parameter.*",
    ".*LeafSpec.*",
    ".*Total length of .DataLoader. across ranks is zero.*",  # where all soups are finished
)
UNLOADED = f"{Unloaded.__module__}.{Unloaded.__qualname__}"
DEBUG = "SRSOUP_DEBUG"  # environment variable: show the traceback of an error


class SaveRunConfig(SaveConfigCallback):
    """Writes ``<root>/config.yaml``, everything needed to run it again, or refuses to go on with another one."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare with the config that is there, in all processes alike, then write; the writer comes before.

        Raises:
            ValueError: The directory holds soups made with another model, sampler, reward or preference.
        """
        changed = trainer.strategy.broadcast(self._changes(trainer) if trainer.is_global_zero else "")
        if changed:
            raise ValueError(
                f"{trainer.default_root_dir} holds a run of another config ({changed}): change it back, give another "
                "--trainer.default_root_dir, or --writer.overwrite true to replace it"
            )
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the config beside the results."""
        write_atomically(RunDirectory(trainer.default_root_dir).config, self._dump().encode())

    def _dump(self) -> str:
        return self.parser.dump(self.config, skip_none=False)

    def _changes(self, trainer: Trainer) -> str:
        run = RunDirectory(trainer.default_root_dir)
        if not run.config.is_file() or next(run.ledger_rows(), None) is None:
            return ""
        return changes(yaml.safe_load(run.config.read_text(encoding="utf-8")), yaml.safe_load(self._dump()))


class RunBoard(Callback):
    """Makes the Trainer log to TensorBoard in the run directory.

    A logger that the Trainer is given opens its files before the callbacks can refuse to go on; this one comes last.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Add the logger."""
        folder = RunDirectory(trainer.default_root_dir).tensorboard
        trainer.loggers = [TensorBoardLogger(folder.parent, folder.name, version="", default_hp_metric=False)]


class SoupCLI(LightningCLI):
    """``srsoup predict``: the Trainer's own command, with files, progress, charts and summary always on."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks' options as ``--writer``, ``--progress``, ``--tensorboard`` and ``--summary``."""
        parser.add_lightning_class_args(SampleWriter, "writer")
        parser.add_lightning_class_args(SoupProgress, "progress")
        parser.add_lightning_class_args(ParetoLogger, "tensorboard")
        parser.add_lightning_class_args(RunSummary, "summary")
        parser.link_arguments("summary.box", "tensorboard.box")

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The Trainer's methods that are commands, and their arguments that the CLI fills itself."""
        return COMMANDS

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:  # noqa: ANN401
        super()._add_subcommands(parser, **kwargs)
        # Pictures go to files; a long run must not keep them all in memory too.
        self._subcommand_parsers["predict"].set_defaults({"return_predictions": False})

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - as in the base class
        """Make a Trainer, whose default logger is TensorBoard in the run directory."""
        if self._get(self.config_init, "trainer.logger") not in (True, None):
            return super().instantiate_trainer(**kwargs)
        trainer = super().instantiate_trainer(logger=False, **kwargs)
        trainer.callbacks.append(RunBoard())  # type: ignore[attr-defined]
        return trainer

    def before_instantiate_classes(self) -> None:
        """Keep a plan from loading rewards that it doesn't probe."""
        if self.subcommand == "plan" and not self.config.plan.probe_models:
            rewards = self.config.plan.model.rewards
            self.config.plan.model.rewards = {name: {"class_path": UNLOADED} for name in rewards}

    def after_predict(self) -> None:
        """Say that a bound ended the run, once, when all processes have written what they finished.

        Raises:
            LimitError: It did.
        """
        run = RunDirectory(self.config.predict.writer.root or self.trainer.default_root_dir)
        reached = SharedCounts(run.spending).read().reached
        if reached and self.trainer.is_global_zero:
            made, asked = sum(1 for _ in run.ledger_rows()), len(self.datamodule.requests)
            raise LimitError(
                f"{reached}; {made} of {asked} soups are finished and kept: raise it, and the same command goes on"
            )


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: Arguments; None takes those of the process.

    Returns:
        The exit code: 0 done, 1 failed while running, 2 misused, 3 ended by a bound or a budget, 130 interrupted,
        143 terminated.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    if arguments == ["--version"]:
        sys.stdout.write(f"srsoup {__version__}\n")
        return 0
    try:
        with hushed(LEVELS, ADVICE):
            _run(arguments)
    except (ArgumentError, LimitError) as error:
        return _fail(str(error), REACHED if isinstance(error, LimitError) else 2)
    except SIGTERMException:
        return _fail(STOPPED.format("terminated"), 128 + signal.SIGTERM)
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code in (0, None):
            return 0
        return _fail(STOPPED.format("interrupted"), 128 + signal.SIGINT)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        notes = "".join(f", {note}" for note in getattr(error, "__notes__", ()))
        hint = "" if isinstance(error, EXPECTED) else f" ({type(error).__name__}; {DEBUG}=1 shows where)"
        return _fail(f"{error}{notes}{hint}", 1)
    return 0


def _run(arguments: list[str]) -> None:
    command = next(iter(arguments), "--help")
    if command in TOOLS:
        run_tool(command, arguments[1:])
        return
    if command not in COMMANDS and not command.startswith("-"):
        raise ArgumentError(None, f"no command {command!r}: choose one of {', '.join((*COMMANDS, *TOOLS))}")
    SoupCLI(
        SRSoupModule,
        PromptDataModule,
        trainer_class=SoupTrainer,
        save_config_callback=SaveRunConfig,
        save_config_kwargs={"save_to_log_dir": False},
        trainer_defaults=TRAINER_DEFAULTS,
        seed_everything_default=False,
        parser_kwargs={"prog": "srsoup", "exit_on_error": False, "epilog": f"Further commands: {', '.join(TOOLS)}."},
        args=_with_config_paths(arguments),
    )


def _with_config_paths(arguments: list[str]) -> list[str]:
    """Arguments with the names of shipped configs replaced by their paths."""
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
    shipped = CONFIGS.find(name)
    if shipped is not None:
        return str(shipped)
    if not Path(name).is_file():
        raise FileNotFoundError(
            f"no config {name!r}: give a path or the name of a shipped config ({', '.join(CONFIGS.names())})"
        )
    return name


def _fail(message: str, code: int) -> int:
    """Say what is wrong in one line, whatever lines and control characters another library's message has."""
    line = " ".join(part.strip() for part in message.splitlines() if part.strip())
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"srsoup: error: {printable(line)}", markup=False)
    return code
