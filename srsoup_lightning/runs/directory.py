"""The run directory: files that a run leaves behind. Only this module knows their layout.

::

    <root>/config.yaml              everything needed to run it again
    <root>/run.json                 identity of the run, see :mod:`srsoup_lightning.runs.identity`
    <root>/samples/<prompt slug>-<hash>/<seed>/<preference>.png
    <root>/samples.jsonl            one row for each image: prompt, seed, preference, rewards, image (relative path),
                                    sha256 of its file, run (id), and failed, only where a reward gave no score: names
                                    of the rewards whose worst score stands instead
    <root>/ledger.jsonl             one row for each soup: prompt, seed, images (their number), queries, hits, failures,
                                    nfe, gradients, decodes, seconds, device, run (id)
    <root>/spending.json            amounts counted against limits and budgets, if there are any
    <root>/adapters.json            LoRAs that the images were made with, if any, and the costs of their training; see
                                    :mod:`srsoup_lightning.runs.adapter`
    <root>/sheets/<prompt slug>-<hash>.png
    <root>/tensorboard/             event files, and curves.jsonl: the curves of each soup over its denoising steps
    <root>/searches/                if kept, see :mod:`srsoup_lightning.runs.searches`
    <root>/adapter/                 of a fit, see :mod:`srsoup_lightning.runs.adapter`
    <root>/checkpoints/             of a fit
    <root>/validation.jsonl         of a fit, one row for each validation: round, step, rewards and more

While several processes run, each but the first writes tables of its own, ``samples.1.jsonl`` and so on. The tables of
the run are all of them together. They are joined when the run is done or continued.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, compress
from pathlib import Path

from srsoup_lightning.runs.files import append_rows, is_torn, read_rows, to_lines, write_atomically
from srsoup_lightning.runs.naming import prompt_slug
from srsoup_lightning.runs.png import is_intact, save_png, to_picture
from srsoup_lightning.runs.rows import CostRow, ImageRow, Key, SoupRecord


def preference_weights(names: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    """Return a preference as rows have it: weight by reward name, rounded to 6 digits."""
    return dict(zip(names, (round(weight, 6) for weight in weights), strict=True))


def image_rows_of(soup: SoupRecord) -> list[ImageRow]:
    """Return the rows of samples.jsonl for a soup, in the order of its preferences."""
    folder = Path("samples") / prompt_slug(soup.prompt) / str(soup.seed)
    return [
        ImageRow(
            prompt=soup.prompt,
            seed=soup.seed,
            preference=preference_weights(soup.reward_names, weights),
            rewards=dict(zip(soup.reward_names, scores, strict=True)),
            image=(folder / f"{name}.png").as_posix(),
            failed=tuple(compress(soup.reward_names, failed)),
        )
        for name, weights, scores, failed in zip(
            soup.preference_names,
            soup.preferences.tolist(),
            soup.rewards.tolist(),
            soup.failed.tolist(),
            strict=True,
        )
    ]


def cost_row_of(soup: SoupRecord) -> CostRow:
    """Return the row of ledger.jsonl for a soup."""
    return CostRow(prompt=soup.prompt, seed=soup.seed, images=len(soup.images), ledger=soup.ledger)


class RunDirectory:
    """Writes soups to a folder and reads their rows back.

    Args:
        root: The folder. It is made with the first write. A URL raises a ValueError.
        rank: Rank of the process that writes.
        run: Id of the run, for the rows that are written.
    """

    def __init__(self, root: str | Path, rank: int = 0, run: str = "") -> None:
        if "://" in str(root):
            raise ValueError(f"{root} is a remote folder: give one of this machine, or one that is mounted here")
        self.root, self.rank, self.run = Path(root), rank, run

    @property
    def config(self) -> Path:
        """Path of the config that made the run."""
        return self.root / "config.yaml"

    @property
    def identity(self) -> Path:
        """Path of the identity of the run."""
        return self.root / "run.json"

    @property
    def samples(self) -> Path:
        """Path of this process's table of images."""
        return self._table("samples")

    @property
    def ledger(self) -> Path:
        """Path of this process's table of costs."""
        return self._table("ledger")

    @property
    def sheets(self) -> Path:
        """Folder of the sheets, one for each prompt."""
        return self.root / "sheets"

    @property
    def spending(self) -> Path:
        """Path of the amounts that all processes have spent of limits and budgets."""
        return self.root / "spending.json"

    @property
    def adapters(self) -> Path:
        """Path of the LoRAs that the images were made with."""
        return self.root / "adapters.json"

    @property
    def tensorboard(self) -> Path:
        """Folder of the event files of TensorBoard."""
        return self.root / "tensorboard"

    @property
    def adapter(self) -> Path:
        """Folder of the adapter that a fit has trained."""
        return self.root / "adapter"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints of a fit."""
        return self.root / "checkpoints"

    @property
    def validation(self) -> Path:
        """Path of the table of a fit's validations."""
        return self.root / "validation.jsonl"

    @property
    def lock(self) -> Path:
        """Path of the file that the process that runs here has locked."""
        return self.root / ".lock"

    @property
    def lease(self) -> Path:
        """Path of the token of the run that began last."""
        return self.root / ".lease"

    def picture(self, image: str) -> Path:
        """Path of the file that a row names.

        Raises:
            ValueError: It lies outside the directory, perhaps by a symbolic link. A directory that somebody else made
                could otherwise show any picture of this machine.
        """
        path = self.root / image
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise ValueError(
                f"a row in {self.root} names {image!r}, which lies outside: copy the picture into the directory"
            )
        return path

    def write(self, soup: SoupRecord) -> None:
        """Write the pictures of a soup, then its rows. Its cost row comes last, when all the rest is on the disk.

        Raises:
            OSError: The disk is full, or the folder is not writable. The tables keep complete lines.
        """
        rows = []
        for row, image in zip(image_rows_of(soup), soup.images, strict=True):
            checksum = save_png(to_picture(image), self.root / row.image)
            rows.append(replace(row, sha256=checksum, run=self.run).to_json())
        append_rows(self.samples, rows)
        append_rows(self.ledger, [replace(cost_row_of(soup), run=self.run).to_json()])

    def recover(self) -> dict[Key, list[ImageRow]]:
        """Remove the rows of unfinished soups, and join the tables of all processes. No process may be writing.

        A soup is finished if it has its cost row, and as many image rows as that row says, whose pictures are those
        that were written: their files have the checksums of the rows.

        Returns:
            The image rows of each finished soup.

        Raises:
            ValueError: A row is damaged that is not the last of its table.
        """
        pictures: dict[Key, dict[str, ImageRow]] = defaultdict(dict)
        images, ledger = list(self.image_rows()), list(self.cost_rows())
        for row in images:
            pictures[row.key][row.image] = row
        costs = {row.key: row for row in ledger}
        finished = {
            key: list(pictures[key].values())
            for key, cost in costs.items()
            if len(pictures[key]) == cost.images
            and all(is_intact(self.root, row.image, row.sha256) for row in pictures[key].values())
        }
        self._keep("samples", list(chain.from_iterable(finished.values())), len(images))
        self._keep("ledger", [costs[key] for key in finished], len(ledger))
        return finished

    def unite(self) -> None:
        """Join the tables of all processes. No process may be writing."""
        if len(self._tables("samples")) > 1 or len(self._tables("ledger")) > 1:
            self.recover()

    def clear(self) -> None:
        """Remove the files that :meth:`write` and the reports made, and no others."""
        others = (self.identity, self.spending, self.adapters, self.validation)
        for file in chain(self._tables("samples"), self._tables("ledger"), others):
            file.unlink(missing_ok=True)
        for folder in (self.root / "samples", self.sheets, self.tensorboard, self.adapter, self.checkpoints):
            shutil.rmtree(folder, ignore_errors=True)

    def sample_tables(self) -> list[Path]:
        """Paths of the tables of images that exist, one for each process that has finished a soup."""
        return [table for table in self._tables("samples") if table.is_file()]

    def image_rows(self) -> Iterator[ImageRow]:
        """Rows of the tables of images of all processes; none where there is no table.

        Raises:
            ValueError: A row is damaged that is not the last of its table.
        """
        tables = chain.from_iterable(map(read_rows, self._tables("samples")))
        return (ImageRow.from_json(row, where) for where, row in tables)

    def cost_rows(self) -> Iterator[CostRow]:
        """Rows of the tables of costs, likewise."""
        tables = chain.from_iterable(map(read_rows, self._tables("ledger")))
        return (CostRow.from_json(row, where) for where, row in tables)

    def _table(self, name: str) -> Path:
        return self.root / (f"{name}.{self.rank}.jsonl" if self.rank else f"{name}.jsonl")

    def _keep(self, name: str, rows: Sequence[ImageRow | CostRow], found: int) -> None:
        """Leave these rows, of `found` ones, in one table. The table is written only where that changes it."""
        first, *others = self._tables(name)
        if others or len(rows) < found or is_torn(first):
            write_atomically(first, to_lines(row.to_json() for row in rows))
        for table in others:
            table.unlink()

    def _tables(self, name: str) -> list[Path]:
        return [self.root / f"{name}.jsonl", *sorted(self.root.glob(f"{name}.[0-9]*.jsonl"))]
