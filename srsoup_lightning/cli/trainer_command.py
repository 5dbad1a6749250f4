"""Commands that are methods of the Trainer: LightningCLI over SRSoupModule and PromptDataModule."""

from __future__ import annotations

import inspect
import logging
import signal
import sys
from contextlib import nullcontext
from pkgutil import resolve_name
from typing import Any, ClassVar

from jsonargparse import ArgumentParser
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.multiprocessing.spawn import ProcessExitedException

from srsoup_lightning.cli.commands import COMMANDS
from srsoup_lightning.cli.config_names import with_config_paths
from srsoup_lightning.cli.own_functions import MODE
from srsoup_lightning.cli.refusal import refusing
from srsoup_lightning.cli.run_config import SaveRunConfig
from srsoup_lightning.cli.vain import nothing_in_vain
from srsoup_lightning.cli.whole_numbers import keep_whole_numbers
from srsoup_lightning.data import PromptDataModule
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.termination import TERMINATED
from srsoup_lightning.terminal import is_quiet, silenced

logger = logging.getLogger(__name__)
TRAINER_DEFAULTS = {
    "default_root_dir": "runs/default",
    "logger": True,  # see RunBoard
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
}
TRAINER_HELP = "--trainer.help"
FILLED = {
    "model",
    "dataloaders",
    "train_dataloaders",
    "val_dataloaders",
    "datamodule",
}  # arguments that LightningCLI fills itself
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


class Beginning(Callback):
    """Tells whether the work of a run has begun, and how much of it there is. This callback comes last.

    Attributes:
        is_past: Whether the run is beyond all checks.
    """

    is_past = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Say what is left to do, and which model is loaded next."""
        data, inform = getattr(trainer, "datamodule", None), rank_zero_only(logger.info)
        if stage == "predict" and isinstance(data, PromptDataModule):
            every, left = len(data.requests), sum(request not in data.finished for request in data.requests)
            todo = f"{left} of {every} soups to make" if left else f"nothing is left to do, all {every} soups are made"
            inform("%s: %s", trainer.default_root_dir, todo)
        inform("loading %s", getattr(pl_module, "base", "the model"))

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning's hook."""
        self.is_past = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning's hook."""
        self.is_past = True


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
        self._method, self._beginning = method, Beginning()
        logger.info("%s: reading the config, and making all that it names", method)
        keep_whole_numbers(self.trainer_type.__init__)
        with refusing(MisconfigurationException, begun=lambda: self._beginning.is_past):
            super().__init__(
                SRSoupModule,
                PromptDataModule,
                trainer_class=self.trainer_type,
                save_config_callback=SaveRunConfig,
                save_config_kwargs={"save_to_log_dir": False},
                trainer_defaults=self.all_defaults(),
                seed_everything_default=False,
                parser_kwargs={"prog": "srsoup", "exit_on_error": False, "parser_mode": MODE},
                args=with_config_paths(arguments),
            )

    @classmethod
    def all_defaults(cls) -> dict[str, object]:
        """Return the defaults of the Trainer's options, without a bar where the command is quiet."""
        return TRAINER_DEFAULTS | cls.defaults | ({"enable_progress_bar": False} if is_quiet() else {})

    @classmethod
    def trainer_help(cls, method: str) -> str:
        """Return the help of the Trainer's options."""
        parser = LightningArgumentParser(
            prog=f"srsoup {method}", usage="%(prog)s --config NAME [options]", description="Options of the Trainer."
        )
        parser.add_lightning_class_args(Trainer, "trainer")
        parser.set_defaults({f"trainer.{name}": value for name, value in cls.all_defaults().items()})
        return parser.format_help()

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Return the method, and its arguments that the CLI fills itself. Parsers of other methods would take time."""
        return {self._method: FILLED & set(inspect.signature(getattr(self.trainer_type, self._method)).parameters)}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of the command's callbacks."""
        command = COMMANDS[self._method]
        for prefix, path in command.callbacks.items():
            parser.add_lightning_class_args(resolve_name(path), prefix)
        for source, target in command.links.items():
            parser.link_arguments(source, target)

    def before_instantiate_classes(self) -> None:
        """Make the writer's root, where it is given, the Trainer's too, so that a run has one directory."""
        config = self.config[self._method]
        if config.writer.root is not None:
            config.trainer.default_root_dir = config.writer.root

    def instantiate_classes(self) -> None:
        """Make the rewards, the sampler and everything else of the config.

        Raises:
            ArgumentError: An argument is wrong.
        """
        with refusing(TypeError):
            self._check_names()
            super().instantiate_classes()

    def _run_subcommand(self, subcommand: str) -> None:
        with nothing_in_vain(self.trainer.default_root_dir, self.trainer.world_size == 1):
            super()._run_subcommand(subcommand)

    def _check_names(self) -> None:
        """Check the names of the rewards against those of the preferences, before the models of rewards are loaded."""
        model = self._get(self.config, "model")
        parser = ArgumentParser()
        parser.add_argument("--preferences", type=Preferences)
        alone = parser.instantiate_classes(parser.parse_object({"preferences": model.preferences}))
        alone.preferences.in_order(model.rewards)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - as in the base class
        """Make a Trainer. Its default logger is TensorBoard in the run directory."""
        own: list[Callback] = [self._beginning]
        if self._get(self.config_init, "trainer.logger") in (True, None):
            own, kwargs = [RunBoard(), self._beginning], kwargs | {"logger": False}
        trainer = super().instantiate_trainer(**kwargs)
        trainer.callbacks += own  # type: ignore[attr-defined]
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
    command = resolve_name(cli)
    if TRAINER_HELP in arguments:
        sys.stdout.write(command.trainer_help(method))
        return
    shows_all = logger.isEnabledFor(logging.DEBUG)
    try:
        with nullcontext() if shows_all else silenced(LEVELS, ADVICE):
            command(method, arguments)
    except ProcessExitedException as ended:  # of a strategy that forks or spawns the processes
        if ended.exit_code not in (TERMINATED, -signal.SIGTERM):
            raise
        raise SystemExit(TERMINATED) from ended
