"""Pictures on disk with their prompts, from a folder of any origin or from a run directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rewards.pictures import MOST_PIXELS, SUFFIXES, load_image, picture_size
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.files import is_utf8, read_rows
from srsoup_lightning.runs.prompt_files import TABLES, prompt_of, read_prompts, table_rows
from srsoup_lightning.runs.rows import ImageRow


class Entry(NamedTuple):
    """Picture that is to be scored.

    Attributes:
        path: Path of its file.
        size: Width and height in pixels.
        row: Its prompt, and its seed and preference where they are known; without rewards.
    """

    path: Path
    size: tuple[int, int]
    row: ImageRow


def find_entries(folder: Path, prompts: Path | None, column: str | None = None) -> list[Entry]:
    """Find the pictures of a folder with their prompts, in the order of their paths or of the prompts file.

    Args:
        folder: Run directory, or folder that is searched with all its subfolders, or folder that the paths in the
            prompts file are relative to.
        prompts: A table (.jsonl, .json, .csv or .tsv) with columns of image and prompt; or a table without images, or a
            text file, with one row for every picture or one for all. None takes the tables of a run directory, whose
            run may be under way.
        column: Column of the prompts. None takes "prompt" or "prompts".

    Raises:
        FileNotFoundError: There are no pictures or no prompts, or a picture of the prompts file is missing.
        ValueError: A row is damaged, a file is no picture or lies outside the folder, perhaps by a symbolic link, or
            the numbers of prompts and pictures differ.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {str(folder)!r}: give the folder of the pictures, or a run directory")
    return [Entry(path, picture_size(path), row) for path, row in _found(folder, prompts, column)]


def _found(folder: Path, prompts: Path | None, column: str | None) -> Iterator[tuple[Path, ImageRow]]:
    if prompts is None:
        return _of_run(folder)
    if not prompts.is_file():
        raise FileNotFoundError(f"no prompts file {str(prompts)!r}")
    return (_of_table if _names_images(prompts) else _listed)(folder, prompts, column)


def _of_run(folder: Path) -> Iterator[tuple[Path, ImageRow]]:
    run = RunDirectory(folder)
    tables = run.sample_tables()
    if not tables:
        raise FileNotFoundError(
            f"{folder} has no samples.jsonl, and no prompts are given: give --prompts FILE, a table with images and "
            "prompts, or a text file with a line for every picture, or with one line for all"
        )
    for table in tables:
        for where, row in read_rows(table):
            found = ImageRow.from_json(row, where, scored=False)
            yield run.picture(found.image), found


def _of_table(folder: Path, prompts: Path, column: str | None) -> Iterator[tuple[Path, ImageRow]]:
    for where, row in table_rows(prompts):
        known: Mapping[str, Any] = row if isinstance(row, Mapping) else {}
        if prompts.suffix.lower() != ".jsonl":  # its other columns are texts
            known = {"image": known.get("image")}
        found = ImageRow.from_json({**known, "prompt": prompt_of(row, column, where)}, where, scored=False)
        yield RunDirectory(folder).picture(found.image), found


def _names_images(prompts: Path) -> bool:
    if prompts.suffix.lower() not in TABLES:
        return False
    _, first = next(table_rows(prompts), ("", {}))
    return isinstance(first, Mapping) and "image" in first


def _listed(folder: Path, prompts: Path, column: str | None) -> Iterator[tuple[Path, ImageRow]]:
    """Pair the pictures of a folder with the prompts of a file."""
    lines = read_prompts(prompts, column)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise FileNotFoundError(f"no pictures in {str(folder)!r}: want {', '.join(sorted(SUFFIXES))}")
    if len(lines) not in (1, len(paths)):
        raise ValueError(
            f"{prompts} has {len(lines)} prompts for {len(paths)} pictures: give one for every picture in the order "
            "of their paths, or one for all"
        )
    for path, prompt in zip(paths, lines * len(paths) if len(lines) == 1 else lines, strict=True):
        name = path.relative_to(folder).as_posix()
        if not is_utf8(name):
            raise ValueError(f"{str(path)!r} has a name that is not in UTF-8: rename it")
        found = ImageRow(prompt=prompt, image=name)
        yield RunDirectory(folder).picture(found.image), found


def batches(entries: list[Entry], most: int) -> Iterator[list[Entry]]:
    """Split entries into batches of at most `most` pictures of one size, fewer large ones; their order is kept."""
    for (width, height), same_size in groupby(entries, key=lambda entry: entry.size):
        group, number = list(same_size), max(1, min(most, MOST_PIXELS // (width * height)))
        yield from (group[start : start + number] for start in range(0, len(group), number))


def load_images(entries: list[Entry]) -> Tensor:
    """Load B pictures of one size as images (B, 3, H, W); see :func:`rewards.pictures.load_image`."""
    return torch.stack([load_image(entry.path) for entry in entries])
