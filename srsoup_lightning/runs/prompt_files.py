"""Files of prompts as benchmarks ship them: text, and tables of the kinds .csv, .tsv, .jsonl and .json."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from rewards.checks import first_line, read_text, refuse_constant
from srsoup_lightning.runs.files import read_rows

TEXTS = ("", ".txt")
TABLES = (".csv", ".tsv", ".jsonl", ".json")
PROMPT = ("prompt", "prompts")  # names of the column, in any case, that no option need name
LONGEST_CELL = 1_000_000  # characters
Row = tuple[str, Mapping[str, Any] | str]
"""File and line in words; and the cells by column, or the prompt where a list has no columns."""


def read_prompts(path: Path, column: str | None = None) -> list[str]:
    """Read the prompts of a text file with one in each line, or of a column of a table.

    Args:
        path: File of the kind .txt, .csv, .tsv, .jsonl (an object in each line) or .json (a list of texts or objects),
            in UTF-8. Blank lines of a text are skipped.
        column: Name of the column, or key of the objects. None takes "prompt" or "prompts", in any case of letters.

    Returns:
        Prompts without spaces around them.

    Raises:
        ValueError: The file is of another kind or not in UTF-8, has no such column, or a row has no prompt in it.
    """
    if path.suffix.lower() in TEXTS:
        if column is not None:
            raise ValueError(f"{path} is a text without columns, and the column {column!r} is asked for: leave it out")
        return [line.strip() for line in read_text(path).split("\n") if line.strip()]
    return [prompt_of(row, column, where) for where, row in table_rows(path)]


def table_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a table.

    Raises:
        ValueError: The file is of another kind or damaged.
    """
    kind = path.suffix.lower()
    if kind not in TABLES:
        raise ValueError(f"{path} is of the kind {kind}: give one of .txt, {', '.join(TABLES)}")
    if kind == ".jsonl":
        yield from read_rows(path, growing=False)
    elif kind == ".json":
        yield from _json_rows(path)
    else:
        yield from _csv_rows(path, "," if kind == ".csv" else "\t")


def prompt_of(row: Mapping[str, Any] | str, column: str | None, where: str) -> str:
    """Return the prompt of a row.

    Raises:
        ValueError: It has none. The message begins with `where`.
    """
    if isinstance(row, str):
        name, cell = "the list", row
    else:
        name = _column(row, column, where)
        cell = row[name]
    if not isinstance(cell, str) or not cell.strip():
        raise ValueError(f"{where} has no prompt in {name!r}, but {str(cell)[:60]!r}: fill it in, or remove the row")
    return cell.strip()


def _column(row: Mapping[str, Any], column: str | None, where: str) -> str:
    fits = [name for name in row if (name.lower() in PROMPT if column is None else name == column)]
    if len(fits) != 1:
        asked = " or ".join(PROMPT) if column is None else repr(column)
        found = f"{len(fits)} columns" if fits else "no column"
        raise ValueError(
            f"{where} has {found} {asked}, but {', '.join(map(repr, row))}: name one of them as prompt_column"
        )
    return fits[0]


def _csv_rows(path: Path, delimiter: str) -> Iterator[Row]:
    """Yield the rows of a table with a header. A .tsv whose quotes do not match has quotes as any other letters."""
    text = read_text(path)
    try:
        rows = list(_parsed(text, delimiter, csv.QUOTE_MINIMAL))
    except csv.Error as error:
        if delimiter != "\t":
            raise ValueError(f"{path} is damaged ({first_line(error)}): put such a cell in double quotes") from None
        rows = list(_parsed(text, delimiter, csv.QUOTE_NONE))
    if not rows:
        return
    (_, names), *others = rows
    if len(set(names)) < len(names):
        raise ValueError(f"{path}, line 1, names a column twice: {', '.join(names)}")
    for line, cells in others:
        where = f"{path}, line {line}"
        if len(cells) > len(names):
            raise ValueError(f"{where} has {len(cells)} cells for {len(names)} columns: put a cell in double quotes")
        yield where, dict(zip(names, [*cells, *[""] * (len(names) - len(cells))], strict=True))


def _parsed(text: str, delimiter: str, quoting: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the last line, and the cells, of each row that is not blank."""
    limit = csv.field_size_limit(LONGEST_CELL)
    try:
        reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)  # type: ignore[arg-type]
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    finally:
        csv.field_size_limit(limit)


def _json_rows(path: Path) -> Iterator[Row]:
    try:
        content = json.loads(read_text(path), parse_constant=refuse_constant)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({first_line(error)}): get it anew") from None
    if not isinstance(content, list) or not all(isinstance(row, (str, dict)) for row in content):
        raise ValueError(f"{path} is no list of texts or of objects with a prompt each: make it one")
    for number, row in enumerate(content, 1):
        yield f"{path}, entry {number}", row
