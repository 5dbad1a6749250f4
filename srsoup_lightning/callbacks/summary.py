"""At the end of a run: a sheet for every prompt and a table of what came out and what it cost."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.console import Console

from srsoup_lightning.data import PromptDataModule
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.report.sheet import write_sheets
from srsoup_lightning.report.tables import cost_lines, hypervolume_box, rewards_table, spending_line
from srsoup_lightning.runs.directory import RunDirectory


class RunSummary(Callback):
    """Draws the sheets into the run directory and shows the table.

    Args:
        root: The run directory; None takes the Trainer's ``default_root_dir``.
        box: {reward: [low, high]}: the box that the hypervolume is measured in, with `low` its reference point, for
            instance the mean of unsteered samples minus 2 and plus 6 of their standard deviations. None takes the
            extremes of the run itself, which compare within the run only.
    """

    def __init__(self, root: str | None = None, box: dict[str, tuple[float, float]] | None = None) -> None:
        self.root, self.box = root, box

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse box that don't fit the rewards before anything is sampled.

        Raises:
            ValueError: Box that leave out a reward, or whose low isn't below high.
        """
        if self.box is not None and isinstance(pl_module, SRSoupModule):
            hypervolume_box(list(pl_module.rewards), self.box)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Draw and show, in the first process, once all have written their soups; some may have had none to make."""
        trainer.strategy.barrier("soups are written")
        if not trainer.is_global_zero:
            return
        console = Console()
        run = RunDirectory(self.root or trainer.default_root_dir)
        rows = list(run.sample_rows())
        if rows:
            write_sheets(run, rows, _prompts_with_new_soups(trainer))
            console.print(rewards_table(rows))
            console.print(cost_lines(run, rows, self.box), soft_wrap=True, markup=False, highlight=False)
        if isinstance(pl_module, SRSoupModule) and (line := spending_line(pl_module.account)):
            console.print(line, soft_wrap=True, markup=False, highlight=False)


def _prompts_with_new_soups(trainer: L.Trainer) -> set[str] | None:
    """The prompts that this run, in any of its processes, made soups of; None where nobody knows."""
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, PromptDataModule):
        return None
    return {request.prompt for request in data.requests if request not in data.finished}
