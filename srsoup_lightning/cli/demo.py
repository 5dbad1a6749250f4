"""``srsoup demo``: a first run, and a page of it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from srsoup_lightning.cli.commands import COMMANDS
from srsoup_lightning.cli.trainer_command import run_trainer
from srsoup_lightning.report.gallery import write_gallery

CONFIG = "animals"
NEXT = """
The page of the fronts is {page}: open it in a browser. Next:

  srsoup predict --config animals --data.prompts '[a snail]' --trainer.default_root_dir {folder}/snail
  srsoup gallery {run} {folder}/snail --out fronts.html
  tensorboard --logdir {folder}
"""


def demo(out: str = "runs") -> None:
    """Draw fronts of six animals between small files and the best fit to the prompt, and write a page of them.

    It uses the builtin models of 64 pixels, and takes minutes on a CPU. The same command goes on where it was stopped.

    Args:
        out: Folder of the run directory ``animals``, which holds the page ``gallery.html`` too.
    """
    run = Path(out, CONFIG)
    page = run / "gallery.html"
    arguments = ["predict", "--config", CONFIG, "--trainer.default_root_dir", str(run)]
    run_trainer("predict", COMMANDS["predict"].trainer, arguments)
    write_gallery([str(run)], str(page))
    Console().print(NEXT.format(page=page, run=run, folder=out), soft_wrap=True, markup=False, highlight=False)
