"""Runs side by side on one page to drag through, which needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from srsoup_lightning.report.embedding import Embedder
from srsoup_lightning.report.page import render
from srsoup_lightning.runs.files import write_atomically
from srsoup_lightning.runs.reading import FinishedRun, Picture, read_runs

DIGITS = 6  # significant ones of a score on the page
TOLERANCE = 1e-4  # of weights that were rounded when they were written


def gallery(
    runs: list[str], out: str = "gallery.html", title: str = "Pictures by preference", max_side: int = 512
) -> Path:
    """Write a page that shows runs side by side, with a slider from reward to reward.

    The page is one HTML file that loads nothing from anywhere. A preference is chosen by a slider (two rewards), in a
    triangle (three) or by a weight for each reward; every run shows the picture whose preference is nearest to it, in
    Euclidean distance between the weights. Pictures without a preference stand beside them.

    Args:
        runs: Run directories, or .jsonl files of scored pictures; ``label=path`` names one.
        out: The file to write.
        title: The heading of the page.
        max_side: Pixels; pictures with a longer side are made smaller for the page.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: No such run, or a picture that isn't there.
        IsADirectoryError: `out` is a folder.
        ValueError: No runs, a `max_side` below 1, a row or a preference that can't be read, or a picture that can't.
    """
    path = Path(out)
    if path.is_dir():
        raise IsADirectoryError(f"out is the folder {out!r}: give the file to write, such as {path / 'gallery.html'}")
    if not runs:
        raise ValueError("no runs: give at least one run directory")
    page = render(title, page_data(read_runs(runs), Embedder(max_side)))
    write_atomically(path, page.encode())
    return path


def page_data(runs: Sequence[FinishedRun], embedder: Embedder) -> dict[str, Any]:
    """What the page shows, as plain lists and numbers.

    Args:
        runs: The runs, at least one; they may differ in prompts, seeds, preferences and rewards.
        embedder: Takes in their pictures.

    Returns:
        ``rewards`` and ``axes``, the names of scores and of weights; ``runs``, their names and mean costs;
        ``prompts`` in order of appearance, each with its pictures along the front, from the first reward alone to the
        last, those without a preference at the end; ``images`` and ``crisp``, what `embedder` holds and whether all of
        it is exact.

    Raises:
        FileNotFoundError: A picture that isn't there.
        ValueError: A preference that isn't on the simplex, or a picture that can't be read.
    """
    pictures = [(index, picture) for index, run in enumerate(runs) for picture in run.pictures]
    for index, picture in pictures:
        _require_shown(picture, runs[index].name)
    rewards = _names(picture.rewards for _, picture in pictures)
    axes = _names(picture.preference for _, picture in pictures)
    prompts: dict[str, list[dict[str, Any]]] = {}
    for index, picture in pictures:
        prompts.setdefault(picture.prompt, []).append(
            {
                "run": index,
                "seed": picture.seed,
                "weights": [picture.preference.get(name, 0) for name in axes] if picture.preference else None,
                "scores": [_short(picture.rewards.get(name)) for name in rewards],
                "failed": list(picture.failed),
                "image": embedder.add(picture.path),
            }
        )
    return {
        "rewards": rewards,
        "axes": axes,
        "runs": [{"name": run.name, "cost": mean_cost(run)} for run in runs],
        "prompts": [{"text": text, "pictures": sorted(rows, key=_along)} for text, rows in prompts.items()],
        "images": embedder.images,
        "crisp": embedder.exact,
    }


def mean_cost(run: FinishedRun) -> dict[str, Any] | None:
    """Mean over soups of queries (by reward), hits, failures, nfe and seconds; None for pictures from elsewhere."""
    if not run.costs:
        return None

    def mean(values: Iterable[float]) -> float:
        return sum(values) / len(run.costs)

    return {
        "queries": {name: mean(cost["queries"].get(name, 0) for cost in run.costs) for name in run.costs[0]["queries"]},
        **{key: mean(sum(cost.get(key, {}).values()) for cost in run.costs) for key in ("hits", "failures")},
        **{key: mean(cost[key] for cost in run.costs) for key in ("nfe", "seconds")},
    }


def _names(mappings: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(name for names in mappings for name in names))


def _short(score: float | None) -> float | None:
    return None if score is None else float(f"{score:.{DIGITS}g}")


def _along(picture: dict[str, Any]) -> tuple[bool, list[float]]:
    return picture["weights"] is None, [-weight for weight in picture["weights"] or ()]


def _require_shown(picture: Picture, run: str) -> None:
    """Check what can be checked before any picture is read."""
    weights = picture.preference.values()
    if weights and abs(sum(weights) - 1) > TOLERANCE:
        raise ValueError(f"run {run!r} has weights {dict(picture.preference)} for {picture.path}: they must sum to 1")
    for name, weight in picture.preference.items():
        if weight < 0:
            raise ValueError(f"run {run!r} weighs {name} by {weight} for {picture.path}: weights are 0 or more")
    if not picture.path.is_file():
        raise FileNotFoundError(f"run {run!r} names {picture.path}, which isn't there: make it again or remove its row")
