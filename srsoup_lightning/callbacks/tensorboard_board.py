"""TensorBoard as a board: all logs of a run in one event file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from PIL import Image

from srsoup_lightning.callbacks.boards import Board, Summary, result_tag
from srsoup_lightning.callbacks.event_files import (
    EventFile,
    Record,
    curve_records,
    image_record,
    numbers_record,
    record_of,
    session_records,
    text_record,
)
from srsoup_lightning.callbacks.layout import Layout


class TensorBoard(Board):
    """TensorBoard.

    Args:
        folder: Folder of the logger.
        layout: Layout of the custom scalars.
        texts: Texts in Markdown, by tag.
        metrics: Names of the metrics of all runs in HParams.
    """

    def __init__(self, folder: str, layout: Layout, texts: Mapping[str, str], metrics: Iterable[str]) -> None:
        from torch.utils.tensorboard.summary import custom_scalars

        self.file, self.metrics = EventFile(folder), list(metrics)
        self._kept = [record_of(custom_scalars(layout), 0), *(text_record(tag, text, 0) for tag, text in texts.items())]

    def replay(self, values: Mapping[str, float], soups: int, picture: Callable[[], Image.Image] | None) -> None:
        """Keep a soup for the new file."""
        self._kept.append(numbers_record(values, soups))
        if picture is not None:
            self._kept.append(image_record("pictures", picture(), soups))

    def add_step(self, values: Mapping[str, float], step: int) -> None:
        """Log a denoising step of the first soup."""
        self.file.add(numbers_record(values, step))
        self.file.flush()

    def add_soup(self, values: Mapping[str, float], soups: int, picture: Image.Image | None) -> None:
        """Log a finished soup, and keep it for the next file."""
        records = [numbers_record(values, soups)]
        if picture is not None:
            records.append(image_record("pictures", picture, soups))
        self._kept += records
        for record in records:
            self.file.add(record)
        self.file.flush()

    def update(self, summary: Summary) -> None:
        """Write all anew."""
        self.file.write_anew([*self._kept, *self._records(summary)])

    def finish(self, summary: Summary) -> None:
        """Write all anew, and close the file."""
        self.update(summary)
        self.file.close()

    def _records(self, summary: Summary) -> Iterator[Record]:
        yield from curve_records(summary.curves)
        for tag, picture in summary.pictures.items():
            yield image_record(tag, picture, summary.soups)
        for tag, table in summary.tables.items():
            yield text_record(tag, table.markdown(), summary.soups)
        if summary.settings:
            yield from session_records(summary.settings, self.metrics, summary.soups)
        if summary.metrics:
            values = {result_tag(name): value for name, value in summary.metrics.items()}
            yield numbers_record(values, summary.soups)
