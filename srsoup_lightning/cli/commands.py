"""Table of the commands of ``srsoup``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

NONE: Mapping[str, str] = MappingProxyType({})
SHARED = {"model": "srsoup_lightning.module:SRSoupModule", "data": "srsoup_lightning.data:PromptDataModule"}
SOUP_CALLBACKS = {
    "writer": "srsoup_lightning.callbacks:SampleWriter",
    "progress": "srsoup_lightning.callbacks:SoupProgress",
    "tensorboard": "srsoup_lightning.callbacks:ParetoLogger",
    "summary": "srsoup_lightning.callbacks:RunSummary",
}
FIT_CALLBACKS = {
    "writer": "srsoup_lightning.callbacks:AdapterWriter",
    "validation": "srsoup_lightning.callbacks:OverOptimisation",
}
LINKS = {"summary.box": "tensorboard.box"}


class Command(NamedTuple):
    """One command.

    Attributes:
        help: One sentence for ``srsoup --help``.
        function: "module:name" of the function that the command calls; of a command that is a method of the Trainer,
            of this method, if it has options of its own.
        trainer: "module:name" of the LightningCLI of a command that is a method of SoupTrainer with the same name.
        callbacks: Prefix of options to the "module:name" of the callback that has them.
        links: Option to the option that takes its value from it.
    """

    help: str
    function: str = ""
    trainer: str = ""
    callbacks: Mapping[str, str] = NONE
    links: Mapping[str, str] = NONE


COMMANDS = {
    "demo": Command("Draw six animals on a CPU, and a page of them.", "srsoup_lightning.cli.demo:demo"),
    "predict": Command(
        "Make pictures of every prompt for all preferences.",
        trainer="srsoup_lightning.cli.predict:PredictCLI",
        callbacks=SOUP_CALLBACKS,
        links=LINKS,
    ),
    "fit": Command("Fine-tune a LoRA by rewards.", trainer="srsoup_lightning.cli.fit:FitCLI", callbacks=FIT_CALLBACKS),
    "plan": Command(
        "Count the cost of a config without running it.",
        "srsoup_lightning.cli.plan:SoupTrainer.plan",
        trainer="srsoup_lightning.cli.plan:PlanCLI",
        callbacks=SOUP_CALLBACKS,
        links=LINKS,
    ),
    "score": Command("Score pictures of any origin by rewards.", "srsoup_lightning.cli.score:score"),
    "compare": Command("Compare finished runs in tables and figures.", "srsoup_lightning.cli.compare:compare"),
    "gallery": Command("Show runs side by side on a page for the browser.", "srsoup_lightning.cli.gallery:gallery"),
    "merge": Command("Average adapters into one.", "srsoup_lightning.cli.merge:merge"),
    "verify": Command("Check that runs are whole, without a model.", "srsoup_lightning.cli.verify:verify"),
    "serve-reward": Command("Serve rewards over HTTP.", "srsoup_lightning.cli.serve_reward:serve"),
}
