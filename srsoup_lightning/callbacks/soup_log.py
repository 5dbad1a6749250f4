"""Logs of a run: soup by soup while it goes on, and as a whole when it ends."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from srsoup_lightning.callbacks.boards import Board, Summary
from srsoup_lightning.callbacks.curves import SO_FAR, Curves, MeanCurves, PreferenceNames, cost_values, step_values
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.report.sheet import soup_sheet, soup_sheet_from_files
from srsoup_lightning.runs.directory import cost_row_of
from srsoup_lightning.runs.reading import Run
from srsoup_lightning.runs.rows import CostRow, total
from srsoup_lightning.samplers.result import Moment, Soup


class SoupLog:
    """Logs soups as they are made.

    Args:
        boards: Where the logs go.
        preferences: Preferences of the run.
        before: The run as earlier parts have left it.
        table: Table of the curves of each soup. None keeps none.
        spacing: Number of soups from one with a sheet of its pictures to the next one; 0 for no sheets.
    """

    def __init__(
        self, boards: Sequence[Board], preferences: Preferences, before: Run, table: Path | None, spacing: int
    ) -> None:
        self.boards, self.spacing, self.done = boards, spacing, 0
        self._names = PreferenceNames(preferences)
        self._spent: Counter[str] = Counter()
        self._curves: Curves = defaultdict(dict)
        self._means = MeanCurves(table, {cost.key for cost in before.costs})
        for cost in before.costs:
            picture = partial(soup_sheet_from_files, before, cost.key) if self._count(cost) else None
            for board in boards:
                board.replay(self._spent, self.done, picture)
        self._update()

    def start(self) -> None:
        """Start a soup."""
        self._curves = defaultdict(dict)

    def add_step(self, moment: Moment) -> None:
        """Take a denoising step."""
        values = step_values(moment, self._names)
        for tag, value in values.items():
            self._curves[tag][moment.step] = value
        if self.done == 0:
            for board in self.boards:
                board.add_step(values, moment.step)

    def end(self, soup: Soup) -> None:
        """Log the costs up to the end of a soup, its pictures, and after 2, 4, 8 ... soups the means of the curves."""
        row = cost_row_of(soup)
        picture = soup_sheet(soup) if self._count(row) else None
        self._means.add(row.key, self._curves)
        for board in self.boards:
            board.add_soup(self._spent, self.done, picture)
        if self.done > 1 and self.done.bit_count() == 1:
            self._update()

    def finish(self, summary: Summary | None = None, costs: Sequence[CostRow] = ()) -> None:
        """End the logs.

        Args:
            summary: Results of the run. None where an error has ended it.
            costs: Cost rows of all processes.
        """
        if len(costs) > self.done:
            for board in self.boards:
                board.add_soup(_spent(costs), len(costs), None)
        summary = summary or Summary(soups=self.done)
        for board in self.boards:
            board.finish(replace(summary, curves={**self._means.curves(), **summary.curves}))

    def _count(self, cost: CostRow) -> bool:
        """Count a soup, and return whether its pictures are to be logged."""
        self.done += 1
        self._spent.update(_spent([cost]))
        return self.spacing > 0 and (self.done - 1) % self.spacing == 0

    def _update(self) -> None:
        for board in self.boards:
            board.update(Summary(soups=self.done, curves=self._means.curves()))


def _spent(costs: Sequence[CostRow]) -> Mapping[str, float]:
    return cost_values(SO_FAR, total(costs))
