"""``srsoup compare``: runs of any methods on the same prompts, measured alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from srsoup_lightning.pareto import thumbnails
from srsoup_lightning.pareto.diversity import Embedding
from srsoup_lightning.report.comparable import comparable, prompts_of
from srsoup_lightning.report.comparison import Comparison
from srsoup_lightning.report.comparison_table import as_csv, as_json, as_table
from srsoup_lightning.report.figures import write_figures
from srsoup_lightning.report.measures import Weights, measured, reference_fronts, shared_preferences, weights_of
from srsoup_lightning.report.units import scaling_of
from srsoup_lightning.runs.reading import FinishedRun, read_runs
from srsoup_lightning.terminal import printable

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that spreadsheets compute


def compare(
    runs: list[str],
    out: str,
    baseline: str | None = None,
    box: dict[str, tuple[float, float]] | None = None,
    common: bool = False,
    embedding: Callable = thumbnails,  # not Embedding, for which --help would list the subclasses of Tensor
) -> None:
    """Compare finished runs on the same prompts: tables, figures and how sure they are.

    Writes comparison.csv (a row a run and measure), comparison.json (the same and all that it rests on), and as SVG and
    PNG front (the rewards of each preference) and hypervolume (against queries, network evaluations and seconds).

    Args:
        runs: Run directories, or .jsonl files of scored pictures; label=path calls one by a label. Differences are to
            the first.
        out: The folder of the results.
        baseline: The label of an unsteered run: units are the standard deviations of its pictures of each prompt, and
            the hypervolume's box goes from 2 below to 6 above their mean.
        box: {reward: [low, high]}, the hypervolume's box for all prompts, in place of a baseline. Without either it
            is the extremes of all pictures together, which hold for this comparison alone.
        common: Compare the prompts that all runs have, in place of refusing runs on other prompts.
        embedding: The function that diversity measures distances with, images (B, 3, H, W) in [0, 1] to vectors (B, D).

    Raises:
        ValueError: Runs of other prompts, rewards or picture sizes, a scaling that can't be, or a run whose name would
            be a formula in the table.
        FileNotFoundError: A run or a picture that isn't there.
        NotADirectoryError: `out` is a file.
        ModuleNotFoundError: No matplotlib for the figures; the tables are written.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"out is {out}, a file: give a folder")
    comparison = compared(runs, baseline, box, common, embedding)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.csv").write_text(as_csv(comparison), encoding="utf-8")
    (folder / "comparison.json").write_text(as_json(comparison), encoding="utf-8")
    console = Console()
    console.print(as_table(comparison))
    for line in (f"box: {comparison.scaling.source}", *comparison.notes, f"tables and figures: {folder}"):
        console.print(printable(line), soft_wrap=True, markup=False, highlight=False)
    write_figures(comparison, folder)


def compared(
    runs: Sequence[str],
    baseline: str | None = None,
    box: dict[str, tuple[float, float]] | None = None,
    common: bool = False,
    embedding: Embedding = thumbnails,
) -> Comparison:
    """The comparison itself, for notebooks; arguments and errors as in :func:`compare`."""
    if not runs:
        raise ValueError("no runs: give at least one run directory or .jsonl file")
    found = read_runs(runs)
    for run in found:
        if run.name.startswith(FORMULA):
            raise ValueError(f"a run is called {run.name!r}, a formula to spreadsheets: name it by label={run.root}")
    chosen = comparable(found, common)
    scaling = scaling_of(chosen, baseline, box)
    references = reference_fronts(chosen, scaling)
    shared = shared_preferences(chosen, scaling.rewards)
    measures = [measured(run, scaling, references, shared, embedding) for run in chosen]
    return Comparison(measures, scaling, references, shared, _notes(chosen, shared))


def _notes(runs: Sequence[FinishedRun], shared: frozenset[Weights]) -> list[str]:
    """What a reader must know to read the numbers right, a line each."""
    rewards = runs[0].rewards
    notes = []
    if len(prompts_of(runs[0])) == 1:
        notes.append("one prompt: nothing can be said about others, so there are no intervals")
    seeds = [len(run.fronts()) for run in runs]
    if len(set(seeds)) > 1:
        notes.append(f"other numbers of fronts: {_each(runs, seeds)}")
    sizes = [_per_front(run) for run in runs]
    if len(set(sizes)) > 1:
        notes.append(f"other numbers of pictures a front, where more can only raise hypervolume: {_each(runs, sizes)}")
    known = {run.name: {weights_of(picture, rewards) for picture in run.pictures} - {()} for run in runs}
    if without := [name for name, preferences in known.items() if not preferences]:
        notes.append(f"no preferences known of {', '.join(without)}: no utility and monotonicity")
    if any(preferences - shared for preferences in known.values()):
        shares = f"utility is the mean over the {len(shared)} preferences that all runs with preferences share"
        notes.append(shares if shared else "no utility: the runs share no preference")
    failed = [sum(bool(picture.failed) for picture in run.pictures) for run in runs]
    if any(failed):
        notes.append(f"pictures with the worst score in place of one that failed: {_each(runs, failed)}")
    devices = sorted({cost["device"] for run in runs for cost in run.costs})
    if len(devices) > 1:
        notes.append(f"seconds are of different devices: {', '.join(devices)}")
    return notes


def _each(runs: Sequence[FinishedRun], values: Sequence[object]) -> str:
    return ", ".join(f"{run.name} {value}" for run, value in zip(runs, values, strict=True))


def _per_front(run: FinishedRun) -> str:
    counts = sorted({len(pictures) for pictures in run.fronts().values()})
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
