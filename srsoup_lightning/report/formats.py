"""Formats of the table of a comparison: terminal, Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rich.table import Table

from srsoup_lightning.report.layout import Cell, Layout, Line
from srsoup_lightning.terminal import literal, printable

ARROWS = {"higher": "↑", "lower": "↓", None: ""}
LATEX_ARROWS = {"higher": r" $\uparrow$", "lower": r" $\downarrow$", None: ""}
LATEX = {letter: rf"\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def as_table(layout: Layout) -> Table:
    """Return a table for the terminal, with a row for each measure and a column for each run, intervals below means."""
    table = Table(title=layout.title("below"), show_lines=True)
    width = max((len(f"{line.measure} {ARROWS[line.better]}") for line in layout.lines), default=0)
    table.add_column("measure", overflow="fold", min_width=width)
    for name, sample in layout.runs:
        table.add_column(f"{literal(name)}\n[not bold dim]{sample}[/]", justify="right", overflow="fold")
    for line in layout.lines:
        heading = f"{literal(line.measure)} {ARROWS[line.better]}\n[dim]{literal(line.unit)}[/]"
        table.add_row(heading.removesuffix("\n[dim][/]"), *map(_terminal_cell, line.cells))
    return table


def _terminal_cell(cell: Cell) -> str:
    mean = f"[bold]{cell.mean}[/]" if cell.best else cell.mean
    return "\n".join(filter(None, (mean, cell.interval, cell.prompts)))


def as_markdown(layout: Layout) -> str:
    """Return a table in Markdown of GitHub, with its title above and the remarks below."""
    heads = [f"{_markdown(name)}<br>{sample}" for name, sample in layout.runs]
    rows = [["measure", *heads], ["---", *["---:"] * len(heads)], *map(_markdown_row, layout.lines)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    remarks = "\n".join(f"- {_markdown(remark)}" for remark in layout.remarks)
    return f"{layout.title('in parentheses')}\n\n{table}\n\n{remarks}\n"


def _markdown_row(line: Line) -> list[str]:
    unit = f"<br>{_markdown(line.unit)}" if line.unit else ""
    return [f"{_markdown(line.measure)} {ARROWS[line.better]}".rstrip() + unit, *map(_markdown_cell, line.cells)]


def _markdown_cell(cell: Cell) -> str:
    return f"{f'**{cell.mean}**' if cell.best else cell.mean}{_in_parentheses(cell)}"


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|~$])", r"\\\1", printable(text))


def as_latex(layout: Layout) -> str:
    """Return a table in LaTeX, which needs the package booktabs. The remarks are comments above it."""
    runs = layout.runs
    comments = [layout.title("in parentheses"), *layout.remarks, r"needs \usepackage{booktabs}"]
    lines = [
        *(f"% {printable(comment)}" for comment in comments),
        rf"\begin{{tabular}}{{l{'r' * len(runs)}}}",
        r"\toprule",
        _latex_row("measure", (_latex(name) for name, _ in runs)),
        _latex_row("", (rf"{{\footnotesize {sample}}}" for _, sample in runs)),
        r"\midrule",
        *(_latex_row(_latex_heading(line), map(_latex_cell, line.cells)) for line in layout.lines),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(heading: str, cells: Iterable[str]) -> str:
    return rf"{' & '.join([heading, *cells])} \\"


def _latex_heading(line: Line) -> str:
    unit = rf" {{\footnotesize {_latex(line.unit)}}}" if line.unit else ""
    return f"{_latex(line.measure)}{LATEX_ARROWS[line.better]}{unit}"


def _latex_cell(cell: Cell) -> str:
    mean, added = (text.replace("-", "$-$") for text in (cell.mean, _in_parentheses(cell)))
    mean = rf"\textbf{{{mean}}}" if cell.best else mean
    return rf"{mean} {{\footnotesize{added}}}" if added else mean


def _latex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in printable(text))


def _in_parentheses(cell: Cell) -> str:
    added = ", ".join(filter(None, (cell.interval, cell.prompts)))
    return f" ({added})" if added else ""
