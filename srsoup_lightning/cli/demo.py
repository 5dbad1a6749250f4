"""``srsoup demo``: a first run, and a page of it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from srsoup_lightning.cli.commands import COMMANDS
from srsoup_lightning.cli.trainer_command import run_trainer
from srsoup_lightning.report.gallery import write_gallery

CONFIG = "animals"
NEXT = """
next:
  open {page}   # the fronts under a slider, in a browser
  srsoup predict --config animals --data.prompts '[a snail]' --trainer.default_root_dir {folder}/snail
  tensorboard --logdir {folder}
"""


def demo(out: str = "runs") -> None:
    """Draw fronts of six animals between small files and the best fit to the prompt, and write a page of them.

    It uses the builtin models of 64 pixels, and takes minutes on a CPU. The same command goes on where it was stopped.

    Args:
        out: Folder of the run directory ``animals`` and of the page ``animals.html``.
    """
    run, page = Path(out, CONFIG), Path(out, f"{CONFIG}.html")
    arguments = ["predict", "--config", CONFIG, "--trainer.default_root_dir", str(run)]
    run_trainer("predict", COMMANDS["predict"].trainer, arguments)
    write_gallery([str(run)], str(page))
    Console().print(NEXT.format(page=page, folder=out), soft_wrap=True, markup=False, highlight=False)
