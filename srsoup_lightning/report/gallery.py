"""Runs side by side on one page with sliders, which needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from srsoup_lightning.report.page import Embedder, render
from srsoup_lightning.runs.files import write_atomically
from srsoup_lightning.runs.reading import Run, read_runs
from srsoup_lightning.runs.rows import ImageRow, total

TITLE = "Pictures by preference"
DIGITS = 6  # significant digits of a score on the page
TOLERANCE = 1e-4  # of the sum of weights, which were rounded when they were written


def write_gallery(runs: Sequence[str], out: str | Path, title: str = TITLE, max_side: int = 512) -> Path:
    """Write a page that shows runs side by side, with a slider from reward to reward.

    Args:
        runs: Run directories, or .jsonl files of scored pictures. ``label=path`` calls one by a label.
        out: File to write.
        title: Heading of the page.
        max_side: Longest side of a picture in pixels. Larger ones are made smaller for the page.

    Returns:
        Path of the page.

    Raises:
        FileNotFoundError: A run or a picture is missing.
        IsADirectoryError: `out` is a folder.
        ValueError: There are no runs, `max_side` is below 1, or a row, a preference or a picture can't be read.
    """
    path = Path(out)
    if path.is_dir():
        raise IsADirectoryError(
            f"out is the folder {str(out)!r}: give the file to write, such as {path / 'gallery.html'}"
        )
    if not runs:
        raise ValueError("no runs: give at least one run directory")
    page = render(title, page_data(read_runs(runs), Embedder(max_side)))
    write_atomically(path, page.encode())
    return path


def page_data(runs: Sequence[Run], embedder: Embedder) -> dict[str, Any]:
    """Return the data of the page, as plain lists and numbers.

    Args:
        runs: The runs, at least one. They may differ in prompts, seeds, preferences and rewards.
        embedder: Collects their pictures.

    Returns:
        ``rewards`` and ``axes``, the names of scores and of weights; ``runs``, their names and mean costs;
        ``prompts`` in order of appearance, each with its pictures along the front, from the first reward alone to the
        last, and those without a preference at the end; ``images`` and ``crisp``, the pictures of `embedder` and
        whether all of them keep every pixel.

    Raises:
        FileNotFoundError: A picture is missing.
        ValueError: A preference isn't on the simplex, or a picture can't be read.
    """
    rows = [(index, row) for index, run in enumerate(runs) for row in run.images]
    for index, row in rows:
        _require_shown(runs[index], row)
    rewards = _names(row.rewards for _, row in rows)
    axes = _names(row.preference for _, row in rows)
    prompts: dict[str, list[dict[str, Any]]] = {}
    for index, row in rows:
        prompts.setdefault(row.prompt, []).append(
            {
                "run": index,
                "seed": row.key[1],
                "weights": [row.preference.get(name, 0) for name in axes] if row.preference else None,
                "scores": [_short(row.rewards.get(name)) for name in rewards],
                "failed": list(row.failed),
                "image": embedder.add(runs[index].picture(row)),
            }
        )
    return {
        "rewards": rewards,
        "axes": axes,
        "runs": [{"name": run.name, "cost": mean_cost(run)} for run in runs],
        "prompts": [{"text": text, "pictures": sorted(shown, key=_along)} for text, shown in prompts.items()],
        "images": embedder.images,
        "crisp": embedder.exact,
    }


def mean_cost(run: Run) -> dict[str, Any] | None:
    """Return the mean over soups of queries (by reward), hits, failures, nfe and seconds; None without any soup."""
    if not run.costs:
        return None
    spent, soups = total(run.costs), len(run.costs)
    return {
        "queries": {name: count / soups for name, count in spent.queries.items()},
        "hits": sum(spent.hits.values()) / soups,
        "failures": sum(spent.failures.values()) / soups,
        "nfe": spent.nfe / soups,
        "seconds": spent.seconds / soups,
    }


def _names(mappings: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(name for names in mappings for name in names))


def _short(score: float | None) -> float | None:
    return None if score is None else float(f"{score:.{DIGITS}g}")


def _along(picture: dict[str, Any]) -> tuple[bool, list[float]]:
    return picture["weights"] is None, [-weight for weight in picture["weights"] or ()]


def _require_shown(run: Run, row: ImageRow) -> None:
    """Check what can be checked before any picture is read."""
    path, weights = run.picture(row), row.preference.values()
    if weights and abs(sum(weights) - 1) > TOLERANCE:
        raise ValueError(f"run {run.name!r} has weights {row.preference} for {path}: they must sum to 1")
    for name, weight in row.preference.items():
        if weight < 0:
            raise ValueError(f"run {run.name!r} weighs {name} by {weight} for {path}: weights are 0 or more")
    if not path.is_file():
        raise FileNotFoundError(f"run {run.name!r} names {path}, which isn't there: make it again or remove its row")
