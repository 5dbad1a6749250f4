"""Sheets of pictures with their scores: one for each prompt of a run, or one for a soup that was just made."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from functools import partial
from math import ceil, sqrt
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from rewards.pictures import as_rgb, open_picture
from srsoup_lightning.runs.directory import RunDirectory, image_rows_of
from srsoup_lightning.runs.naming import prompt_slug
from srsoup_lightning.runs.png import save_png, to_picture
from srsoup_lightning.runs.reading import Run
from srsoup_lightning.runs.rows import ImageRow, Key, grouped
from srsoup_lightning.samplers.result import Soup

TILE = 128  # pixels that a small picture is enlarged to
LARGEST = 256  # pixels that the longer side of a soup's pictures is reduced to
LINE = 15  # pixels of a text line
LETTER = 7  # pixels of a letter
GAP = 6
SEEDS = 16  # the first ones of a prompt: more of them would make a sheet too long to look at


class Tile(NamedTuple):
    """Picture on a sheet.

    Attributes:
        open: Opens the picture when it is drawn.
        above: Lines above it.
        below: Lines below it.
    """

    open: Callable[[], AbstractContextManager[Image.Image]]
    above: Sequence[str]
    below: Sequence[str]


def write_sheets(run: Run, changed: Collection[str] | None = None) -> None:
    """Draw the sheets of a run: preferences from left to right, the first seeds from top to bottom.

    Args:
        run: A run directory that was read.
        changed: Prompts whose sheet is to be drawn again if there is one. None draws all.
    """
    sheets = RunDirectory(run.root).sheets
    for prompt, images in grouped(run.images, lambda row: row.prompt).items():
        path = sheets / f"{prompt_slug(prompt)}.png"
        if changed is None or prompt in changed or not path.is_file():
            save_png(draw_sheet(prompt, _by_seed(run, images)), path)


def _by_seed(run: Run, images: Sequence[ImageRow]) -> list[list[Tile | None]]:
    by_seed = grouped(images, lambda row: row.key)
    seeds = sorted(by_seed)[:SEEDS]
    shown = [row for row in images if row.key in seeds]
    preferences = list(dict.fromkeys(tuple(row.preference.items()) for row in shown))
    grid: list[list[Tile | None]] = [[None] * len(preferences) for _ in seeds]
    for row in shown:
        line, column = seeds.index(row.key), preferences.index(tuple(row.preference.items()))
        grid[line][column] = _tile(row, partial(open_picture, run.picture(row)), labelled=line == 0)
    return grid


def soup_sheet(soup: Soup) -> Image.Image:
    """Draw the pictures of one soup, reduced where they are large, in about as many rows as columns."""
    pictures = zip(image_rows_of(soup), soup.images, strict=True)
    tiles = [_tile(row, partial(reduced, image), labelled=True) for row, image in pictures]
    return _nearly_square(tiles, soup.prompt, soup.seed)


def soup_sheet_from_files(run: Run, key: Key) -> Image.Image:
    """Draw the sheet of :func:`soup_sheet` from the files of a run directory.

    Args:
        run: The run.
        key: Prompt and seed of one of its soups.
    """
    rows = [row for row in run.images if row.key == key]
    return _nearly_square([_tile(row, partial(_reduced_file, run.picture(row)), labelled=True) for row in rows], *key)


def methods_sheet(prompt: str, runs: Sequence[Run]) -> Image.Image:
    """Draw the pictures of several runs for a prompt, one run below the other: those of the first seed they all have.

    Columns are the preferences of the first run that all of them have. Runs without common preferences show those that
    they have.

    Args:
        prompt: Prompt that all runs have.
        runs: At least one run.
    """
    by_seed = [grouped((row for row in run.images if row.prompt == prompt), lambda row: row.key) for run in runs]
    common = [key for key in by_seed[0] if all(key in seeds for seeds in by_seed)]
    chosen = [seeds[common[0] if common else next(iter(seeds))] for seeds in by_seed]
    shared = [weights for weights in map(_weights, chosen[0]) if all(weights in map(_weights, rows) for rows in chosen)]
    grid: list[list[Tile | None]] = []
    for run, rows in zip(runs, chosen, strict=True):
        by_weights = {_weights(row): row for row in rows}
        shown = [by_weights[weights] for weights in shared] if shared else rows
        labelled = not (shared and grid)
        tiles = [_tile(row, partial(_reduced_file, run.picture(row)), labelled) for row in shown]
        names = [run.name, *[""] * len(tiles)]
        grid.append([tile._replace(above=[name, *tile.above]) for name, tile in zip(names, tiles, strict=False)])
    grid.sort(key=len, reverse=True)  # the first row of a sheet has no gaps
    seeds = dict.fromkeys(rows[0].key[1] for rows in chosen)
    return draw_sheet(f"{prompt}, seed {', '.join(map(str, seeds))}", grid)


def _weights(row: ImageRow) -> frozenset[tuple[str, float]]:
    return frozenset(row.preference.items())


def _nearly_square(tiles: Sequence[Tile], prompt: str, seed: int) -> Image.Image:
    columns = ceil(sqrt(len(tiles)))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    return draw_sheet(f"{prompt}, seed {seed}", rows)


def reduced(image: Tensor) -> Image.Image:
    """Convert an image (3, H, W) in [0, 1] to a picture whose longer side has at most 256 pixels."""
    return _reduced(to_picture(image))


def _reduced_file(path: Path) -> Image.Image:
    with open_picture(path) as picture:
        return _reduced(as_rgb(picture))


def _reduced(picture: Image.Image) -> Image.Image:
    small = picture.copy()
    small.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return small


def _tile(row: ImageRow, opened: Callable[[], AbstractContextManager[Image.Image]], labelled: bool) -> Tile:
    weights = [f"{name} {weight:.3g}" for name, weight in row.preference.items()]
    return Tile(opened, weights if labelled else (), [f"{name} {score:.3f}" for name, score in row.rewards.items()])


def draw_sheet(title: str, rows: Sequence[Sequence[Tile | None]]) -> Image.Image:
    """Draw tiles of pictures of one size in rows, small pictures enlarged without smoothing.

    Args:
        title: Heading, broken into at most three lines.
        rows: Tiles from left to right; None leaves a gap. The first row has no gaps.
    """
    with next(tile.open() for tile in rows[0] if tile) as first:
        scale = max(1, round(TILE / first.width))
        width, height = first.width * scale, first.height * scale
    across = len(rows[0]) * (width + GAP) + GAP
    heading = textwrap.wrap(title, across // LETTER, max_lines=3, placeholder=" …")
    above = [max(len(tile.above) for tile in row if tile) for row in rows]
    below = [max(len(tile.below) for tile in row if tile) for row in rows]
    lines = len(heading) + sum(above) + sum(below)
    gaps = len(rows) + sum(map(bool, above))
    sheet = Image.new("RGB", (across, lines * LINE + gaps * GAP + len(rows) * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    draw.multiline_text((GAP, 1), "\n".join(heading), fill="black", font=font, spacing=2)
    top = len(heading) * LINE
    for row, over, under in zip(rows, above, below, strict=True):
        picture_top = top + over * LINE + (GAP if over else 0)
        for column, tile in enumerate(row):
            if tile is None:
                continue
            left = GAP + column * (width + GAP)
            draw.multiline_text((left, top), "\n".join(tile.above), fill="#555555", font=font, spacing=2)
            with tile.open() as picture:
                sheet.paste(as_rgb(picture).resize((width, height), Image.Resampling.NEAREST), (left, picture_top))
            draw.multiline_text((left, picture_top + height), "\n".join(tile.below), fill="black", font=font, spacing=2)
        top = picture_top + height + under * LINE + GAP
    return sheet
