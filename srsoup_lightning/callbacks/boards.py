"""Boards, where the logs of a run go: TensorBoard, or any other logger of Lightning."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from lightning.pytorch.loggers import Logger
from PIL import Image

from srsoup_lightning.callbacks.curves import Curves
from srsoup_lightning.report.hparams import Value
from srsoup_lightning.report.run_tables import TextTable

Pictures = Mapping[str, Image.Image]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Logs of a run as a whole, which take the place of earlier ones.

    Attributes:
        soups: Number of finished soups.
        curves: Curves by tag: over denoising steps, or along the front.
        pictures: Pictures by tag.
        tables: Tables by tag.
        settings: Settings of the run; none until it is done.
        metrics: Results of the run, likewise.
    """

    soups: int
    curves: Curves = field(default_factory=dict)
    pictures: Pictures = field(default_factory=dict)
    tables: Mapping[str, TextTable] = field(default_factory=dict)
    settings: Mapping[str, Value] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


def result_tag(metric: str) -> str:
    """Return the tag of a result of a run."""
    return f"result/{metric}"


class Board(abc.ABC):
    """Place where the logs of a run go."""

    @abc.abstractmethod
    def replay(self, values: Mapping[str, float], soups: int, picture: Callable[[], Image.Image] | None) -> None:
        """Take a soup that an earlier part of the run has finished, as :meth:`add_soup` did then."""

    @abc.abstractmethod
    def add_step(self, values: Mapping[str, float], step: int) -> None:
        """Log a denoising step of the first soup. Means over soups follow."""

    @abc.abstractmethod
    def add_soup(self, values: Mapping[str, float], soups: int, picture: Image.Image | None) -> None:
        """Log a finished soup: costs so far by tag, and a sheet of its pictures."""

    @abc.abstractmethod
    def update(self, summary: Summary) -> None:
        """Log the run as a whole, while it goes on."""

    @abc.abstractmethod
    def finish(self, summary: Summary) -> None:
        """Log the run as a whole, when it ends."""


class LoggerBoard(Board):
    """Any logger of Lightning: numbers in any case, pictures and tables if it has ``log_image`` and ``log_table``.

    Curves have the denoising step, or the place along the front, as their step.
    """

    def __init__(self, logger: Logger) -> None:
        self.logger = logger

    def replay(self, values: Mapping[str, float], soups: int, picture: Callable[[], Image.Image] | None) -> None:
        """Do nothing: the logger has the soup already."""

    def add_step(self, values: Mapping[str, float], step: int) -> None:
        """Do nothing: the curves come at the end, because loggers keep every number."""

    def update(self, summary: Summary) -> None:
        """Do nothing, likewise."""

    def add_soup(self, values: Mapping[str, float], soups: int, picture: Image.Image | None) -> None:
        """Log a finished soup, and save it where the logger keeps numbers in memory."""
        self.logger.log_metrics(dict(values), soups)
        if picture is not None:
            self._log_pictures({"pictures": picture}, soups)
        self.logger.save()

    def finish(self, summary: Summary) -> None:
        """Log the run as a whole."""
        for step in sorted({step for at in summary.curves.values() for step in at}):
            values = {tag: at[step] for tag, at in summary.curves.items() if step in at}
            self.logger.log_metrics(values, step)
        if summary.settings:
            self.logger.log_hyperparams(dict(summary.settings))
        if summary.metrics:
            values = {result_tag(name): value for name, value in summary.metrics.items()}
            self.logger.log_metrics(values, summary.soups)
        self._log_pictures(summary.pictures, summary.soups)
        log_table = self._method("log_table")
        if log_table is not None:
            for tag, table in summary.tables.items():
                log_table(tag, columns=table.columns, data=table.rows)
        self.logger.save()

    def _log_pictures(self, pictures: Pictures, step: int) -> None:
        log_image = self._method("log_image")
        if log_image is not None:
            for tag, picture in pictures.items():
                log_image(tag, [picture], step=step)

    def _method(self, name: str) -> Callable[..., None] | None:
        """Return a method that not every logger has, as the one of Weights & Biases does."""
        found = getattr(self.logger, name, None)
        return cast("Callable[..., None]", found) if callable(found) else None
