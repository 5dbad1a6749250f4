"""The run directory: what a run leaves behind, and the one place that knows its layout.

::

    <root>/config.yaml              everything needed to run it again
    <root>/samples/<prompt slug>-<hash>/<seed>/<preference>.png
    <root>/samples.jsonl            a row an image: prompt, seed, preference, rewards, image, and if a reward gave it
                                    no score, failed: the names of those whose worst score stands instead
    <root>/ledger.jsonl             a row a soup: prompt, seed, images (their number), queries, hits, failures, nfe,
                                    decodes, seconds, device
    <root>/spending.json            what bounds and budgets have counted, if there are any
    <root>/sheets/<prompt slug>-<hash>.png
    <root>/tensorboard/             event files

While several processes run, each but the first has tables of its own, ``samples.1.jsonl`` and so on: the run's tables
are all of them together, and one again when the run is done or goes on.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from io import BytesIO
from itertools import chain, compress
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from srsoup_lightning.runs.files import append_rows, is_torn, read_rows, to_lines, write_atomically
from srsoup_lightning.samplers.result import Soup

SLUG_LENGTH = 40
PNG_END = b"IEND\xaeB`\x82"
Row = dict[str, Any]
Key = tuple[str, int]  # of a soup: prompt and seed


def prompt_slug(prompt: str) -> str:
    """A folder name for any prompt: its first letters and digits, and a hash that tells equal beginnings apart."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:SLUG_LENGTH].strip("-") or "prompt"
    return f"{words}-{hashlib.blake2b(prompt.encode(), digest_size=4).hexdigest()}"


def to_picture(image: Tensor) -> Image.Image:
    """An image (3, H, W) in [0, 1] as an 8-bit picture."""
    return Image.fromarray((image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def preference_weights(names: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    """A preference as rows write it."""
    return dict(zip(names, (round(weight, 6) for weight in weights), strict=True))


def sample_rows_of(soup: Soup) -> list[Row]:
    """The rows of samples.jsonl that a soup has, in the order of its preferences."""
    folder = Path("samples") / prompt_slug(soup.prompt) / str(soup.seed)
    return [
        {
            "prompt": soup.prompt,
            "seed": soup.seed,
            "preference": preference_weights(soup.reward_names, weights),
            "rewards": dict(zip(soup.reward_names, scores, strict=True)),
            "image": (folder / f"{name}.png").as_posix(),
            **({"failed": list(compress(soup.reward_names, failed))} if any(failed) else {}),
        }
        for name, weights, scores, failed in zip(
            soup.preference_names,
            soup.preferences.tolist(),
            soup.rewards.tolist(),
            soup.failed.tolist(),
            strict=True,
        )
    ]


def ledger_row_of(soup: Soup) -> Row:
    """The row of ledger.jsonl that a soup has."""
    return {"prompt": soup.prompt, "seed": soup.seed, "images": len(soup.images), **asdict(soup.ledger)}


class RunDirectory:
    """Writes soups to a folder and reads them back.

    Args:
        root: The folder; it is made when something is written.
        rank: Which of the run's processes writes.
    """

    def __init__(self, root: str | Path, rank: int = 0) -> None:
        self.root, self.rank = Path(root), rank

    @property
    def config(self) -> Path:
        """The config that made the run."""
        return self.root / "config.yaml"

    @property
    def samples(self) -> Path:
        """The table of images, or this process's part of it."""
        return self._table("samples")

    @property
    def ledger(self) -> Path:
        """The table of costs, or this process's part of it."""
        return self._table("ledger")

    @property
    def sheets(self) -> Path:
        """The folder of the sheets, one a prompt."""
        return self.root / "sheets"

    @property
    def spending(self) -> Path:
        """What all processes have spent of the run's bounds and budgets."""
        return self.root / "spending.json"

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.root / "tensorboard"

    @property
    def lock(self) -> Path:
        """The file that the process that runs here holds."""
        return self.root / ".lock"

    def picture(self, image: str) -> Path:
        """The file that a row names.

        Raises:
            ValueError: It lies outside the directory, perhaps by a symbolic link: a directory that somebody else made
                could have any picture of this machine read and shown.
        """
        path = self.root / image
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise ValueError(
                f"a row in {self.root} names {image!r}, which lies outside: copy the picture into the directory"
            )
        return path

    def write(self, soup: Soup) -> None:
        """Write a soup's pictures, then its rows; a soup has its ledger row only when all the rest is there.

        Raises:
            OSError: The disk is full, or the place is not to be written; the tables stay whole.
        """
        rows = sample_rows_of(soup)
        for row, image in zip(rows, soup.images, strict=True):
            save_png(to_picture(image), self.root / row["image"])
        append_rows(self.samples, rows)
        append_rows(self.ledger, [ledger_row_of(soup)])

    def recover(self) -> dict[Key, list[Row]]:
        """Leave nothing but finished soups in the tables, one table each again; call it while no process writes.

        A soup is finished if it has its ledger row, and as many rows and whole pictures as that says.

        Returns:
            The rows of samples.jsonl of each finished soup.

        Raises:
            ValueError: A table is damaged elsewhere than in its last line.
        """
        pictures: dict[Key, dict[str, Row]] = defaultdict(dict)
        samples, ledger = list(self.sample_rows()), list(self.ledger_rows())
        for row in samples:
            pictures[row["prompt"], row["seed"]][row["image"]] = row
        costs = {(row["prompt"], row["seed"]): row for row in ledger}
        finished = {
            key: list(pictures[key].values())
            for key, cost in costs.items()
            if len(pictures[key]) == cost["images"] and all(_is_whole(self.root, image) for image in pictures[key])
        }
        self._keep("samples", list(chain.from_iterable(finished.values())), len(samples))
        self._keep("ledger", [costs[key] for key in finished], len(ledger))
        return finished

    def unite(self) -> None:
        """Make one table of those of all processes; call it while no process writes."""
        if len(self._parts("samples")) > 1 or len(self._parts("ledger")) > 1:
            self.recover()

    def clear(self) -> None:
        """Remove what :meth:`write` and the reports made, and nothing else."""
        for table in chain(self._parts("samples"), self._parts("ledger"), [self.spending]):
            table.unlink(missing_ok=True)
        for folder in (self.root / "samples", self.sheets, self.tensorboard):
            shutil.rmtree(folder, ignore_errors=True)

    def sample_tables(self) -> list[Path]:
        """The files that samples.jsonl consists of, those of all processes that have finished a soup."""
        return [part for part in self._parts("samples") if part.is_file()]

    def sample_rows(self) -> Iterator[Row]:
        """The rows of samples.jsonl, of all processes; none if there is no such file.

        Raises:
            ValueError: A table is damaged elsewhere than in its last line.
        """
        return chain.from_iterable(read_rows(part) for part in self._parts("samples"))

    def ledger_rows(self) -> Iterator[Row]:
        """The rows of ledger.jsonl, likewise."""
        return chain.from_iterable(read_rows(part) for part in self._parts("ledger"))

    def _table(self, name: str) -> Path:
        return self.root / (f"{name}.{self.rank}.jsonl" if self.rank else f"{name}.jsonl")

    def _keep(self, name: str, rows: list[Row], found: int) -> None:
        """Leave these rows, of so many that were found, in one table, which is written only if it isn't there."""
        first, *others = self._parts(name)
        if others or len(rows) < found or is_torn(first):
            write_atomically(first, to_lines(rows))
        for part in others:
            part.unlink()

    def _parts(self, name: str) -> list[Path]:
        return [self.root / f"{name}.jsonl", *sorted(self.root.glob(f"{name}.[0-9]*.jsonl"))]


def save_png(picture: Image.Image, path: Path) -> None:
    """Write a picture so that a reader finds it whole or not at all."""
    content = BytesIO()
    picture.save(content, format="PNG")
    write_atomically(path, content.getvalue())


def _is_whole(root: Path, image: str) -> bool:
    # Runs have hundreds of thousands of pictures: no file object and no Path for each.
    try:
        handle = os.open(os.path.join(root, image), os.O_RDONLY)
    except OSError:
        return False
    try:
        os.lseek(handle, -len(PNG_END), os.SEEK_END)
        return os.read(handle, len(PNG_END)) == PNG_END
    except OSError:  # shorter than that
        return False
    finally:
        os.close(handle)
