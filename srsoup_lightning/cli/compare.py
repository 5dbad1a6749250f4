"""``srsoup compare``: tables and figures of runs on the same prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from srsoup_lightning.pareto import thumbnails
from srsoup_lightning.report.compare import compared
from srsoup_lightning.report.comparison import as_csv, as_json, as_table
from srsoup_lightning.report.figures import write_figures
from srsoup_lightning.terminal import printable


def compare(
    runs: list[str],
    out: str,
    baseline: str | None = None,
    box: dict[str, tuple[float, float]] | None = None,
    common: bool = False,
    embedding: Callable = thumbnails,  # not Embedding, for which --help would list the subclasses of Tensor
) -> None:
    """Compare finished runs on the same prompts: tables, figures and intervals.

    Writes comparison.csv (a row for each run and measure), comparison.json (the same rows and everything that they are
    computed from), and as SVG and PNG front (the rewards of each preference) and hypervolume (against queries, network
    evaluations and seconds).

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
        ValueError: See :func:`srsoup_lightning.report.compare.compared`.
        FileNotFoundError: A run or a picture is missing.
        NotADirectoryError: `out` is a file.
        ModuleNotFoundError: The figures need matplotlib. The tables are written.
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
    for line in (f"box: {comparison.units.source}", *comparison.notes, f"tables and figures: {folder}"):
        console.print(printable(line), soft_wrap=True, markup=False, highlight=False)
    write_figures(comparison, folder)
