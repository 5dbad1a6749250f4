"""Table of the commands of ``srsoup``."""

from __future__ import annotations

import argparse
from functools import partial
from typing import NamedTuple


class Command(NamedTuple):
    """One command.

    Attributes:
        help: One sentence for ``srsoup --help``.
        function: "module:name" of the function that the command calls.
        trainer: "module:name" of the LightningCLI of a command that is a method of SoupTrainer with the same name.
    """

    help: str
    function: str = ""
    trainer: str = ""


COMMANDS = {
    "predict": Command(
        "Make the pictures of every prompt and seed for all preferences.",
        trainer="srsoup_lightning.cli.predict:PredictCLI",
    ),
    "fit": Command("Fine-tune a LoRA by rewards.", trainer="srsoup_lightning.cli.fit:FitCLI"),
    "plan": Command("Count the cost of a config without running it.", trainer="srsoup_lightning.cli.plan:PlanCLI"),
    "score": Command("Score pictures of any origin by rewards.", "srsoup_lightning.cli.score:score"),
    "compare": Command("Compare finished runs in tables and figures.", "srsoup_lightning.cli.compare:compare"),
    "gallery": Command("Show runs side by side on a page for the browser.", "srsoup_lightning.cli.gallery:gallery"),
    "merge": Command("Average adapters into one.", "srsoup_lightning.cli.merge:merge"),
    "verify": Command("Check that runs are whole, without a model.", "srsoup_lightning.cli.verify:verify"),
    "serve-reward": Command("Serve rewards over HTTP.", "srsoup_lightning.cli.serve_reward:serve"),
}


def overview() -> str:
    """Text of ``srsoup --help``."""
    parser = argparse.ArgumentParser(
        prog="srsoup",
        description="Steer text-to-image diffusion models by black-box rewards, for every preference at once.",
        epilog="srsoup COMMAND --help shows the options of a command.",
        formatter_class=partial(argparse.HelpFormatter, max_help_position=32),
    )
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.help)
    return parser.format_help()
