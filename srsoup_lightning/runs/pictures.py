"""Pictures on disk and their prompts, for scoring: from a folder of any origin or from a run directory."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from srsoup_lightning.runs.files import require_text
from srsoup_lightning.runs.directory import RunDirectory

SUFFIXES = frozenset({".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
KNOWN = ("prompt", "seed", "preference")  # what a row of a prompts file says of its picture


class Entry(NamedTuple):
    """A picture to score.

    Attributes:
        path: Its file.
        size: Width and height in pixels.
        known: Its prompt, and its seed and preference where they are known.
    """

    path: Path
    size: tuple[int, int]
    known: dict[str, Any]


def find_entries(folder: Path, prompts: Path | None) -> list[Entry]:
    """The pictures of a folder with their prompts, in the order of their paths or of the prompts file.

    Args:
        folder: Searched with all its subfolders, or where the pictures lie that the prompts file names.
        prompts: A .jsonl file with rows of image (relative to `folder`) and prompt, or a text file with a line for
            every picture or one for all; None takes the folder's samples.jsonl, those of all processes of a run under
            way.

    Raises:
        FileNotFoundError: No pictures, no prompts, or a picture that the prompts file names and that isn't there.
        ValueError: A file that is no picture, or other numbers of lines and pictures.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {str(folder)!r}: give the folder of the pictures, or a run directory")
    tables = RunDirectory(folder).sample_tables() if prompts is None else [prompts] * prompts.is_file()
    if not tables and prompts is None:
        raise FileNotFoundError(
            f"{folder} has no samples.jsonl, and no prompts are given: give --prompts FILE, a .jsonl file or a text "
            "file with a line for every picture, or with one line for all"
        )
    if not tables:
        raise FileNotFoundError(f"no prompts file {str(prompts)!r}")
    found = chain.from_iterable(_of_table(folder, table, prompts is None) for table in tables)
    return [Entry(path, _size(path), known) for path, known in found]


def _of_table(folder: Path, table: Path, ours: bool) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The pictures and prompts of one file; of a run's own, a last line that is still being written says nothing."""
    content = table.read_bytes()
    whole = content[: content.rfind(b"\n") + 1] if ours else content  # before it is read as text: half a letter is none
    lines = [line.strip() for line in whole.decode().splitlines() if line.strip()]
    return _named(folder, lines, table, ours) if table.suffix == ".jsonl" else _listed(folder, lines, table)


def _named(folder: Path, lines: list[str], table: Path, ours: bool) -> Iterator[tuple[Path, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            image, known = row["image"], {"prompt": row["prompt"], **{key: row[key] for key in KNOWN if key in row}}
            path = folder / image
            if not isinstance(known["prompt"], str):
                raise TypeError(known)
        except (ValueError, RecursionError, KeyError, TypeError):
            raise ValueError(f'{table}, row {number} is {line[:80]!r}: want {{"image": …, "prompt": …}}') from None
        require_text(known["prompt"], f"{table}, row {number}")
        yield (RunDirectory(folder).picture(image) if ours else path), known


def _listed(folder: Path, lines: list[str], table: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise FileNotFoundError(f"no pictures in {str(folder)!r}: want {', '.join(sorted(SUFFIXES))}")
    if len(lines) not in (1, len(paths)):
        raise ValueError(
            f"{table} has {len(lines)} lines for {len(paths)} pictures: give a line for every picture in the order of "
            "their paths, or one line for all"
        )
    prompts = lines * len(paths) if len(lines) == 1 else lines
    return zip(paths, ({"prompt": prompt} for prompt in prompts), strict=True)


def _size(path: Path) -> tuple[int, int]:
    """Width and height as people see the picture, from the file's header."""
    with open_picture(path) as picture:
        turned = picture.getexif().get(0x0112, 1) >= 5  # EXIF's orientations 5 ... 8 swap the sides
        return (picture.height, picture.width) if turned else picture.size


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """A picture, of which nothing but the head is read until its pixels are asked for.

    Pillow reads many more kinds of files than pictures are kept in, some through other programs; here it reads those
    with one of SUFFIXES, whatever the file is called.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is torn, no picture, or claims more than Pillow's ``MAX_IMAGE_PIXELS``; from the block,
            too, if that reads the pixels.
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
    """The entries in their order, in batches of pictures of one size, of at most so many."""
    for _, alike in groupby(entries, key=lambda entry: entry.size):
        group = list(alike)
        yield from (group[start : start + most] for start in range(0, len(group), most))


def load_images(entries: list[Entry]) -> Tensor:
    """Pictures of one size as images (B, 3, H, W); see :func:`load_image`."""
    return torch.stack([load_image(entry.path) for entry in entries])


def load_image(path: Path) -> Tensor:
    """A picture as people see it, as an image (3, H, W) float32 in [0, 1]; transparency becomes white.

    Raises:
        FileNotFoundError, ValueError: See :func:`open_picture`.
    """
    with open_picture(path) as file:
        picture = ImageOps.exif_transpose(file)
        if picture.has_transparency_data:
            canvas = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(canvas, picture.convert("RGBA"))
        pixels = np.asarray(picture.convert("RGB"))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255
