"""Pictures on disk with their prompts, from a folder of any origin or from a run directory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from rewards.eight_bit import from_eight_bit
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.files import read_rows
from srsoup_lightning.runs.prompt_files import TABLES, prompt_of, read_prompts, table_rows
from srsoup_lightning.runs.rows import ImageRow

SUFFIXES = frozenset({".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


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
        ValueError: A row is damaged, a file is no picture, or the numbers of prompts and pictures differ.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {str(folder)!r}: give the folder of the pictures, or a run directory")
    return [Entry(path, _size(path), row) for path, row in _found(folder, prompts, column)]


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
        yield folder / found.image, found


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
        yield path, ImageRow(prompt=prompt, image=path.relative_to(folder).as_posix())


def _size(path: Path) -> tuple[int, int]:
    """Width and height of an upright picture, from the header of its file."""
    with open_picture(path) as picture:
        turned = picture.getexif().get(0x0112, 1) >= 5  # EXIF's orientations 5 ... 8 swap the sides
        return (picture.height, picture.width) if turned else picture.size


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """Open a picture. Only its header is read until its pixels are asked for.

    Pillow can read many other kinds of files, some through other programs. Here it reads only the kinds of SUFFIXES,
    whatever the name of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is torn, is no picture, or claims more pixels than Pillow's ``MAX_IMAGE_PIXELS``. The block
            can raise it too, when it reads the pixels.
    """
    if not path.exists():
        raise FileNotFoundError(f"no picture {str(path)!r}: make it again, or remove the row that names it")
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is a folder, a pipe or a device, no picture: remove it")
    kinds = {kind for suffix, kind in Image.registered_extensions().items() if suffix in SUFFIXES}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(path, formats=sorted(kinds))
        with picture:
            yield picture
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ValueError(
            f"{path} has more than {Image.MAX_IMAGE_PIXELS:,} pixels, as files that are made to fill the memory: "
            "remove it, or make it smaller"
        ) from None
    except (OSError, SyntaxError) as error:  # the latter is how Pillow says that a PNG is broken
        raise ValueError(f"{path} is torn or no picture ({error}): remove it, or make it anew") from None


def batches(entries: list[Entry], most: int) -> Iterator[list[Entry]]:
    """Split entries into batches of at most `most` pictures of one size; their order is kept."""
    for _, same_size in groupby(entries, key=lambda entry: entry.size):
        group = list(same_size)
        yield from (group[start : start + most] for start in range(0, len(group), most))


def load_images(entries: list[Entry]) -> Tensor:
    """Load B pictures of one size as images (B, 3, H, W); see :func:`load_image`."""
    return torch.stack([load_image(entry.path) for entry in entries])


def load_image(path: Path) -> Tensor:
    """Load a picture as an image (3, H, W) float32 in [0, 1], turned upright, with white for transparency.

    Raises:
        FileNotFoundError, ValueError: See :func:`open_picture`.
    """
    with open_picture(path) as file:
        picture = ImageOps.exif_transpose(file)
        if picture.has_transparency_data:
            canvas = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(canvas, picture.convert("RGBA"))
        pixels = np.array(picture.convert("RGB"))
    return from_eight_bit(pixels[None])[0]
