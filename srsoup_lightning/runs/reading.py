"""Finished runs, read for comparison: ours, or pictures from elsewhere that ``srsoup score`` has scored."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from srsoup_lightning.runs.files import require_text
from srsoup_lightning.runs.directory import RunDirectory

NEEDED = ("prompt", "image", "rewards")
KINDS = {  # of what a row says: the type, and what it is called
    "prompt": (str, "a text"),
    "image": (str, "a path"),
    "rewards": (dict, "an object of numbers"),
    "preference": (dict, "an object of numbers"),
    "seed": (int, "a whole number"),
    "failed": (list, "a list of names"),
}


@dataclass(frozen=True)
class Picture:
    """One picture and what its rewards say of it.

    Attributes:
        prompt: Its prompt.
        seed: Its seed; 0 where none is known.
        preference: Weights of the rewards that it was made for; empty where none is known.
        rewards: Scores by reward name, finite.
        path: The file.
        failed: Names of rewards that gave it no score, so that the worst score of its soup stands instead.
    """

    prompt: str
    seed: int
    preference: dict[str, float]
    rewards: dict[str, float]
    path: Path
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class FinishedRun:
    """What a run left behind.

    Attributes:
        name: What tables and figures call it.
        root: Its directory.
        pictures: In the order of its file; at least one.
        costs: The rows of its ledger, one a soup; empty for pictures from elsewhere.
    """

    name: str
    root: Path
    pictures: tuple[Picture, ...]
    costs: tuple[dict[str, Any], ...] = field(default=())

    @property
    def rewards(self) -> tuple[str, ...]:
        """The names of its rewards."""
        return tuple(self.pictures[0].rewards)

    def fronts(self) -> dict[tuple[str, int], list[Picture]]:
        """The pictures of each prompt and seed: a soup, or all of a prompt's pictures where no seed is known."""
        fronts: dict[tuple[str, int], list[Picture]] = defaultdict(list)
        for picture in self.pictures:
            fronts[picture.prompt, picture.seed].append(picture)
        return dict(fronts)


def read_runs(names: Sequence[str]) -> list[FinishedRun]:
    """Read runs, each from its directory or from a file of scored pictures.

    Args:
        names: Paths of run directories or of .jsonl files with rows as in samples.jsonl (of which prompt, image and
            rewards are needed); ``label=path`` calls a run `label` instead of by its folder's or file's name.

    Raises:
        FileNotFoundError: No such run, or one without pictures.
        ValueError: A row that lacks something, has a score that isn't a finite number or other rewards than the rest of
            its run, or two runs of one name.
    """
    runs = [_read_run(name) for name in names]
    seen: dict[str, Path] = {}
    for run in runs:
        if run.name in seen:
            raise ValueError(
                f"two runs are called {run.name!r}, {seen[run.name]} and {run.root}: name one by label={run.root}"
            )
        seen[run.name] = run.root
    return runs


def _read_run(name: str) -> FinishedRun:
    label, equals, rest = name.partition("=")
    path = Path(name) if Path(name).exists() or not equals else Path(rest)
    run = None if path.suffix == ".jsonl" else RunDirectory(path)
    tables = run.sample_tables() if run else [path] * path.is_file()
    if not tables:
        raise FileNotFoundError(f"no run {str(path)!r}: give a run directory with samples.jsonl, or a .jsonl file")
    found = list(chain.from_iterable(_pictures(table, run) for table in tables))
    if not found:
        raise FileNotFoundError(f"{tables[0]} holds no pictures: finish a soup first")
    pictures = tuple(picture for _, picture in found)
    for where, picture in found:
        if set(picture.rewards) != set(pictures[0].rewards):
            raise ValueError(
                f"{where} has the rewards {list(picture.rewards)} and line 1 {list(pictures[0].rewards)}: score all "
                "pictures with the same"
            )
    given = label if equals and path == Path(rest) else path.resolve().name.removesuffix(".jsonl")
    costs = () if run is None else tuple(run.ledger_rows())
    return FinishedRun(given, path, pictures, costs)


def _pictures(table: Path, run: RunDirectory | None) -> Iterator[tuple[str, Picture]]:
    """Line and picture of a table; those of a run directory lie in it, those of a table by itself wherever it says."""
    with table.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{table}, line {number}"
            row = _row(line, where)
            path = table.parent / row["image"] if run is None else run.picture(row["image"])
            yield where, _picture(row, path, where)


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON ({error}): remove it, or finish the run again") from None
    if not isinstance(row, dict):
        raise ValueError(f"{where} is no JSON object: rows need prompt, image and rewards")
    row = {key: value for key, value in row.items() if value is not None}
    for key, (kind, called) in KINDS.items():
        if key in NEEDED and key not in row:
            raise ValueError(f"{where} lacks {key!r}: rows need prompt, image and rewards")
        if not isinstance(row.get(key, kind()), kind):
            raise ValueError(f"{where} has {str(row[key])[:60]!r} as {key}: give {called}")
    require_text(row["prompt"], where)
    return row


def run_of_rows(name: str, root: Path, rows: Iterable[Mapping[str, Any]]) -> FinishedRun:
    """A run from rows as in samples.jsonl, at least one, whose images are relative to `root`; costs aside.

    Raises:
        ValueError: A row has a score that isn't a finite number.
    """
    return FinishedRun(
        name, root, tuple(_picture(row, root / row["image"], f"row {n} of {name}") for n, row in enumerate(rows, 1))
    )


def _picture(row: Mapping[str, Any], path: Path, where: str) -> Picture:
    return Picture(
        prompt=row["prompt"],
        seed=row.get("seed", 0),
        preference={name: _number(name, weight, where) for name, weight in row.get("preference", {}).items()},
        rewards={name: _number(name, score, where) for name, score in row["rewards"].items()},
        path=path,
        failed=tuple(map(str, row.get("failed", ()))),
    )


def _number(name: str, given: object, where: str) -> float:
    try:
        if isinstance(given, int | float) and math.isfinite(given):
            return float(given)
    except OverflowError:  # a whole number beyond all floats
        pass
    raise ValueError(f"{where} has {name} {str(given)[:60]}: give a finite number")
