"""At the end of a run: a sheet for every prompt, and a table of rewards and costs."""

from __future__ import annotations

import lightning as L
from rich.console import Console

from srsoup_lightning.callbacks.base import SoupCallback
from srsoup_lightning.data import PromptDataModule
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.report.sheet import write_sheets
from srsoup_lightning.report.tables import cost_lines, rewards_table, spending_line
from srsoup_lightning.report.units import require_box
from srsoup_lightning.runs.reading import read_run


class RunSummary(SoupCallback):
    """Draws the sheets into the run directory and shows the table.

    Args:
        root: The run directory. None takes the Trainer's ``default_root_dir``.
        box: {reward: [low, high]}: the box in which the hypervolume is measured, with `low` as its reference point. An
            example is the mean of unsteered samples minus 2 and plus 6 of their standard deviations. None takes the
            extremes of the run itself. Such a hypervolume can be compared within the run only.
    """

    def __init__(self, root: str | None = None, box: dict[str, tuple[float, float]] | None = None) -> None:
        self.root, self.box = root, box

    def on_run_setup(self, trainer: L.Trainer, module: SRSoupModule) -> None:
        """Check the box before anything is sampled.

        Raises:
            ValueError: The box leaves out a reward, or a low is not below its high.
        """
        if self.box is not None:
            require_box(self.box, module.preferences.weighted)

    def on_run_end(self, trainer: L.Trainer, module: SRSoupModule) -> None:
        """Draw and show in the first process, when all processes have written their soups."""
        trainer.strategy.barrier("soups are written")
        if not trainer.is_global_zero:
            return
        console = Console()
        run = read_run(self.root or trainer.default_root_dir)
        if run.images:
            write_sheets(run, _prompts_with_new_soups(trainer))
            console.print(rewards_table(run))
            console.print(cost_lines(run, self.box), soft_wrap=True, markup=False, highlight=False)
        if line := spending_line(module.account):
            console.print(line, soft_wrap=True, markup=False, highlight=False)


def _prompts_with_new_soups(trainer: L.Trainer) -> set[str] | None:
    """The prompts of which this run made soups, in any of its processes. None where that is unknown."""
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, PromptDataModule):
        return None
    return {request.prompt for request in data.requests if request not in data.finished}
