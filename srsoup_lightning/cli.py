"""The command line: LightningCLI over SRSoupModule and PromptDataModule, with shipped configs by name."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from rich.console import Console

from srsoup_lightning.callbacks import RunSummary, SampleWriter, SoupProgress
from srsoup_lightning.data import PromptDataModule
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.run_directory import RunDirectory
from srsoup_lightning.samplers import RewardError
from srsoup_lightning.shipped import CONFIGS
from srsoup_lightning.tools import TOOLS, run_tool
from srsoup_lightning.trainer import SoupTrainer, Unloaded
from srsoup_lightning.version import __version__

TRAINER_DEFAULTS = {
    "default_root_dir": "runs/default",
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
}
COMMANDS = {"predict": LightningCLI.subcommands()["predict"], "plan": {"model", "datamodule"}}  # of the Trainer
EXPECTED = (ValueError, OSError, RewardError)  # their messages say what is wrong and what to do
UNLOADED = f"{Unloaded.__module__}.{Unloaded.__qualname__}"
DEBUG = "SRSOUP_DEBUG"  # environment variable: show the traceback of an error


class SaveRunConfig(SaveConfigCallback):
    """Writes ``<root>/config.yaml``, everything needed to run it again."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the config beside the results."""
        path = RunDirectory(trainer.default_root_dir).config
        path.parent.mkdir(parents=True, exist_ok=True)
        self.parser.save(self.config, path, skip_none=False, overwrite=True, multifile=False)


class SoupCLI(LightningCLI):
    """``srsoup predict``: the Trainer's own command, with files, progress and summary always on."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks' options as ``--writer``, ``--summary`` and ``--progress``."""
        parser.add_lightning_class_args(SampleWriter, "writer")
        parser.add_lightning_class_args(SoupProgress, "progress")
        parser.add_lightning_class_args(RunSummary, "summary")

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The Trainer's methods that are commands, and their arguments that the CLI fills itself."""
        return COMMANDS

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:  # noqa: ANN401
        super()._add_subcommands(parser, **kwargs)
        # Pictures go to files; a long run must not keep them all in memory too.
        self._subcommand_parsers["predict"].set_defaults({"return_predictions": False})

    def before_instantiate_classes(self) -> None:
        """Keep a plan from loading rewards that it doesn't probe."""
        if self.subcommand == "plan" and not self.config.plan.probe_models:
            rewards = self.config.plan.model.rewards
            self.config.plan.model.rewards = {name: {"class_path": UNLOADED} for name in rewards}


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 failed while running, 2 misused, 130 interrupted.

    Args:
        args: Arguments; None takes those of the process.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    if arguments == ["--version"]:
        sys.stdout.write(f"srsoup {__version__}\n")
        return 0
    _quiet()
    try:
        _run(arguments)
    except ArgumentError as error:
        return _fail(_innermost(str(error)), 2)
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code in (0, None):
            return 0
        return _fail("interrupted: what was finished is kept", 130)
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


def _innermost(message: str) -> str:
    """The last lines of jsonargparse's nested message, which name the key at fault."""
    return " ".join(line.strip() for line in message.splitlines() if line.strip())


def _fail(message: str, code: int) -> int:
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"srsoup: error: {message}", markup=False)
    return code


def _quiet() -> None:
    """Keep the frameworks' advice out of a terminal that shows progress."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for advice in (".*does not have many workers.*", ".*LightningCLI's args parameter.*", ".*LeafSpec.*"):
        warnings.filterwarnings("ignore", message=advice)
