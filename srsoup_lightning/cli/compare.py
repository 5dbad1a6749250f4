"""``srsoup compare``: tables and figures of runs on the same prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from rich.console import Console

from srsoup_lightning.pareto import thumbnails
from srsoup_lightning.report.compare import compared
from srsoup_lightning.report.comparison import as_csv, as_json
from srsoup_lightning.report.figures import write_figures
from srsoup_lightning.report.formats import as_latex, as_markdown, as_table
from srsoup_lightning.report.layout import layout
from srsoup_lightning.terminal import printable

FORMATS = {"latex": ("comparison.tex", as_latex), "markdown": ("comparison.md", as_markdown)}


def compare(
    runs: list[str],
    out: str,
    baseline: str | None = None,
    box: dict[str, tuple[float, float]] | None = None,
    common: bool = False,
    measures: list[str] | None = None,
    format: Literal["latex", "markdown"] | None = None,
    figures: bool = True,
    embedding: Callable = thumbnails,  # not Embedding, for which --help would list the subclasses of Tensor
) -> None:
    """Compare finished runs on the same prompts: tables, figures and intervals.

    Writes comparison.csv (a row for each run and measure), comparison.json (the same rows and everything that they are
    computed from), and as SVG, PDF and PNG front (the rewards of each preference) and hypervolume (against queries,
    network evaluations and seconds).

    Args:
        runs: Run directories, or .jsonl files of scored pictures; label=path calls one by a label. Differences are to
            the first.
        out: The folder of the results.
        baseline: The label of an unsteered run: units are the standard deviations of its pictures of each prompt, and
            the hypervolume's box goes from 2 below to 6 above their mean.
        box: {reward: [low, high]}, the hypervolume's box for all prompts, in place of a baseline. Without either it
            is the extremes of all pictures together, which hold for this comparison alone.
        common: Compare the prompts that all runs have, in place of refusing runs on other prompts.
        measures: The measures of the table in the terminal, in LaTeX and in Markdown, in their order. All by default.
        format: Write the table as comparison.tex (latex) or comparison.md (markdown) too.
        figures: Draw the figures, which need matplotlib.
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
    table = layout(comparison, measures)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.csv").write_text(as_csv(comparison), encoding="utf-8")
    (folder / "comparison.json").write_text(as_json(comparison), encoding="utf-8")
    if format is not None:
        name, write = FORMATS[format]
        (folder / name).write_text(write(table), encoding="utf-8")
    console = Console()
    console.print(as_table(table))
    for line in (*table.remarks, f"results: {folder}"):
        console.print(printable(line), soft_wrap=True, markup=False, highlight=False)
    if figures:
        write_figures(comparison, folder)
