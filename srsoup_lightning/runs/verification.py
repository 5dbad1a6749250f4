"""Check of a run directory against itself: every row, and every picture by the checksum in its row."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import TypeVar

from srsoup_lightning.runs.adapter import read_facts, read_used_adapters
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.identity import read_identity
from srsoup_lightning.runs.png import is_intact
from srsoup_lightning.runs.rows import CostRow, ImageRow, Key
from srsoup_lightning.runs.spending import SharedCounts

Read = TypeVar("Read")


def problems(run: RunDirectory) -> Iterator[str]:
    """Yield what is wrong with a run, in one sentence each. No model is needed.

    A run that is under way has unfinished soups.

    Args:
        run: Directory.

    Yields:
        The problems. There are none where every file can be read, every soup has its cost row and all its pictures, all
        rows are of the run in run.json, every picture has the checksum of its row, and every picture has a row.
    """
    checks: list[Callable[[], object]] = [
        lambda: read_used_adapters(run.adapters),
        SharedCounts(run.spending).read,
        lambda: run.adapter.exists() and read_facts(run.adapter),
    ]
    for check in checks:
        _, problem = _tried(check)
        yield from problem
    identity, problem = _tried(lambda: read_identity(run.identity))
    yield from problem
    if identity is None and not problem:
        yield f"{run.identity} is missing: nothing tells which run made the pictures"
    images, problem = _tried(lambda: list(run.image_rows()))
    costs, other = _tried(lambda: list(run.cost_rows()))
    yield from [*problem, *other]
    if images is None or costs is None:
        return
    rows: list[ImageRow | CostRow] = [*images, *costs]
    for row in rows:
        if identity is not None and row.run != identity.id:
            yield f"a row of prompt {row.prompt!r}, seed {row.seed}, is of another run, {row.run or 'unknown'}"
    yield from _wrong_numbers(Counter(row.key for row in images), {row.key: row.images for row in costs})
    yield from _wrong_pictures(run, images)


def _tried(read: Callable[[], Read]) -> tuple[Read | None, list[str]]:
    """Return what a reader gives, and what it complains about."""
    try:
        return read(), []
    except (OSError, ValueError) as error:
        return None, [str(error)]


def _wrong_numbers(found: Counter[Key], told: dict[Key, int]) -> Iterator[str]:
    for prompt, seed in dict.fromkeys([*told, *found]):
        soup = f"the soup of prompt {prompt!r}, seed {seed},"
        if (prompt, seed) not in told:
            yield f"{soup} is not finished: the same command makes it"
        elif found[prompt, seed] != told[prompt, seed]:
            yield f"{soup} has {found[prompt, seed]} of {told[prompt, seed]} pictures: the same command makes it again"


def _wrong_pictures(run: RunDirectory, images: list[ImageRow]) -> Iterator[str]:
    rows = defaultdict[str, list[ImageRow]](list)
    for row in images:
        rows[row.image].append(row)
    for image, owners in rows.items():
        path, problem = _tried(lambda image=image: run.picture(image))  # type: ignore[misc]
        yield from problem
        if path is not None and not path.is_file():
            yield f"{path} is missing: the same command makes its soup again"
        elif path is not None and not any(is_intact(run.root, image, row.sha256) for row in owners):
            yield f"{path} is not the picture of its row, by its checksum: the same command makes its soup again"
    for path in sorted((run.root / "samples").rglob("*.png")):
        if path.relative_to(run.root).as_posix() not in rows:
            yield f"{path} has no row: its soup was not finished, or it is none of the run's"
