"""A bar that moves with every network evaluation."""

from __future__ import annotations

from statistics import fmean

import lightning as L
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from srsoup_lightning.callbacks.base import SoupCallback
from srsoup_lightning.data import SoupRequest
from srsoup_lightning.module import SRSoupModule
from srsoup_lightning.samplers.result import Moment, OnStep, Soup
from srsoup_lightning.terminal import is_quiet, literal

PERIOD = 3600.0  # seconds whose speed tells the remaining time; a step with search may take minutes


class SoupProgress(SoupCallback):
    """One bar over all soups of the first process. It names the soup under way and shows its cost so far.

    The share of a soup that is done is that of its network evaluations, of which steps with search have many more than
    others. Their number is planned by a rehearsal, and then taken from the finished soups. Where the cost of a method
    varies, the plan is the highest that it can come to. The bar is hidden where the logger ``srsoup_lightning`` shows
    warnings and errors alone.
    """

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._done = 0
        self._current = ""
        self._planned, self._spent = 0.0, list[int]()

    def on_run_setup(self, trainer: L.Trainer, module: SRSoupModule) -> None:
        """Check that no other bar would draw in its place.

        Raises:
            ValueError: The Trainer has one.
        """
        if trainer.progress_bar_callback is not None:
            raise ValueError(
                "trainer.enable_progress_bar is true, and the run has a bar of its own: leave the option out"
            )

    def on_run_start(self, trainer: L.Trainer, module: SRSoupModule) -> OnStep | None:
        """Show the bar."""
        if not trainer.is_global_zero:
            return None
        columns = (TextColumn("{task.description}"), BarColumn(None), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress, self._done = Progress(*columns, speed_estimate_period=PERIOD, disable=is_quiet()), 0
        ledger, _ = module.forecast.expected(module.problem("").denoiser)
        self._planned, self._spent = ledger.nfe, []
        self._task = self._progress.add_task("starting", total=sum(trainer.num_predict_batches))
        self._progress.start()
        return self._move

    def on_soup_start(self, request: SoupRequest) -> None:
        """Name the soup that is next."""
        prompt = request.prompt if len(request.prompt) <= 40 else f"{request.prompt[:39]}…"
        self._current = literal(f"{prompt}, seed {request.seed}")

    def on_soup_end(self, trainer: L.Trainer, soup: Soup, index: int) -> None:
        """Count the soup."""
        self._done = index + 1
        self._spent.append(soup.ledger.nfe)
        self._planned = fmean(self._spent)

    def on_soups_end(self, failed: bool) -> None:
        """Take the bar down, before an error is shown."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _move(self, moment: Moment) -> None:
        if self._progress is not None:
            share = min(moment.ledger.nfe / self._planned, 1.0) if self._planned else 0.0
            spent = f"{moment.ledger.total_queries:,} queries"
            self._progress.update(
                self._task,
                completed=self._done + share,
                description=f"{self._current}: step {moment.step}/{moment.steps}, {spent}",
            )
