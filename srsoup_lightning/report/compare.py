"""Comparison of runs of any methods on the same prompts, in the same units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rewards.pictures import picture_size
from srsoup_lightning.pareto import thumbnails
from srsoup_lightning.pareto.diversity import Embedding
from srsoup_lightning.report.comparison import Comparison
from srsoup_lightning.report.measures import Weights, by_preference, measured, reference_fronts, shared_preferences
from srsoup_lightning.report.units import Box, units_of
from srsoup_lightning.runs.reading import Run, read_runs

# First letters of cells that spreadsheets compute, some after leaving out others
FORMULA = ("=", "+", "-", "@", "|", "\t", "\r", "\n", " ", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def compared(
    runs: Sequence[str],
    baseline: str | None = None,
    box: Box | None = None,
    common: bool = False,
    embedding: Embedding = thumbnails,
) -> Comparison:
    """Compare finished runs on the same prompts.

    Args:
        runs: Run directories, or .jsonl files of scored pictures. ``label=path`` calls one by a label. Differences are
            to the first.
        baseline: Label of an unsteered run. Units are then the standard deviations of its pictures of each prompt, and
            the box of the hypervolume goes from 2 below to 6 above their mean.
        box: {reward: [low, high]}, the box of the hypervolume for all prompts, in place of a baseline. Without either
            it is the extremes of all pictures together, which hold for this comparison alone.
        common: Whether to compare only the prompts that all runs have, in place of refusing runs on other prompts.
        embedding: Images (B, 3, H, W) in [0, 1] to vectors (B, D), whose distances diversity measures.

    Raises:
        ValueError: There are no runs. Or they differ in rewards, prompts or picture sizes. Or baseline or box don't
            fit, or the name of a run would be a formula in a spreadsheet, or a row is damaged.
        FileNotFoundError: A run or a picture is missing.
    """
    if not runs:
        raise ValueError("no runs: give at least one run directory or .jsonl file")
    found = read_runs(runs)
    for run in found:
        if run.name.startswith(FORMULA):
            raise ValueError(f"a run is called {run.name!r}, a formula to spreadsheets: name it by label={run.root}")
    chosen = _comparable(found, common)
    units = units_of(chosen, baseline, box)
    references = reference_fronts(chosen, units)
    shared = shared_preferences(chosen, units.rewards)
    measures = [measured(run, units, references, shared, embedding) for run in chosen]
    return Comparison(measures, units, references, shared, _notes(chosen, shared))


def _comparable(runs: Sequence[Run], common: bool) -> list[Run]:
    """Check that runs have the same rewards, prompts and picture size, and measure all by the rewards that any weighs.

    With `common`, keep the prompts of all runs.
    """
    first, *others = runs
    for other in others:
        if set(other.scored) != set(first.scored):
            raise ValueError(
                f"{_both(first, other)} have other rewards, {list(first.scored)} and {list(other.scored)}: "
                "score both with the same"
            )
    if common:
        runs = _on_common_prompts(runs)
    else:
        for other in others:
            _require_same_prompts(first, other)
    _require_one_size(runs)
    weighed = {name for run in runs for row in run.images for name, weight in row.preference.items() if weight}
    objectives = tuple(name for name in first.scored if name in weighed) or first.scored
    return [replace(run, objectives=objectives) for run in runs]


def _both(first: Run, other: Run) -> str:
    return f"runs {first.name!r} and {other.name!r}"


def _on_common_prompts(runs: Sequence[Run]) -> list[Run]:
    shared = set.intersection(*(set(run.prompts) for run in runs))
    if not shared:
        raise ValueError(f"runs {[run.name for run in runs]} have no prompt in common: compare runs on the same ones")
    return [
        replace(
            run,
            images=tuple(row for row in run.images if row.prompt in shared),
            costs=tuple(cost for cost in run.costs if cost.prompt in shared),
        )
        for run in runs
    ]


def _require_same_prompts(first: Run, other: Run) -> None:
    for here, there in ((first, other), (other, first)):
        known = set(there.prompts)
        absent = [prompt for prompt in here.prompts if prompt not in known]
        if absent:
            raise ValueError(
                f"{_both(first, other)} have other prompts, {here.name!r} alone has {len(absent)}, one of them "
                f"{absent[0]!r}: compare runs on the same prompts, or those they share by --common true"
            )


def _require_one_size(runs: Sequence[Run]) -> None:
    first = None
    for run in runs:
        for row in run.images:
            path = run.picture(row)
            size = picture_size(path)
            first = first or (run, path, size)
            if size != first[2]:
                raise ValueError(
                    f"{_both(first[0], run)} have pictures of other sizes, {first[1]} {_pixels(first[2])} and "
                    f"{path} {_pixels(size)}: compare pictures of one resolution"
                )


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _notes(runs: Sequence[Run], shared: frozenset[Weights]) -> list[str]:
    """Return remarks that are needed to read the numbers right, one line each."""
    rewards = runs[0].rewards
    notes = []
    if len(runs[0].prompts) == 1:
        notes.append("one prompt: nothing can be said about others, so there are no intervals")
    seeds = [len(run.fronts()) for run in runs]
    if len(set(seeds)) > 1:
        notes.append(f"other numbers of fronts: {_each(runs, seeds)}")
    sizes = [_per_front(run) for run in runs]
    if len(set(sizes)) > 1:
        notes.append(f"other numbers of pictures a front, where more can only raise hypervolume: {_each(runs, sizes)}")
    known = {run.name: by_preference(run, rewards).keys() - {()} for run in runs}
    if without := [name for name, preferences in known.items() if not preferences]:
        notes.append(f"no preferences known of {', '.join(without)}: no utility and monotonicity")
    if any(preferences - shared for preferences in known.values()):
        shares = f"utility is the mean over the {len(shared)} preferences that all runs with preferences share"
        notes.append(shares if shared else "no utility: the runs share no preference")
    failed = [sum(bool(row.failed) for row in run.images) for run in runs]
    if any(failed):
        notes.append(f"pictures with the worst score in place of one that failed: {_each(runs, failed)}")
    devices = {cost.ledger.device for run in runs for cost in run.costs}
    devices |= {adapter.facts.costs.device for run in runs for adapter in run.adapters if adapter.facts is not None}
    if len(devices) > 1:
        notes.append(f"seconds are of different devices: {', '.join(sorted(devices))}")
    return notes + _notes_on_training(runs)


def _notes_on_training(runs: Sequence[Run]) -> list[str]:
    if not any(run.adapters for run in runs):
        return []
    untold = [f"{run.name} ({_untold(run)})" for run in runs if run.training is None]
    notes = ["training costs are totals, paid once for all pictures of a LoRA; the other costs are those of one front"]
    return notes + ([f"training costs are unknown of {', '.join(untold)}"] if untold else [])


def _untold(run: Run) -> str:
    return ", ".join(each.source for each in run.adapters if each.facts is None) or "scored pictures"


def _each(runs: Sequence[Run], values: Sequence[object]) -> str:
    return ", ".join(f"{run.name} {value}" for run, value in zip(runs, values, strict=True))


def _per_front(run: Run) -> str:
    counts = sorted({len(images) for images in run.fronts().values()})
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
