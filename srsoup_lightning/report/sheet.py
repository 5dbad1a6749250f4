"""Pictures on one sheet, scores below each: of a prompt in a run, or of a soup as soon as it is made."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from srsoup_lightning.run_directory import RunDirectory, prompt_slug, sample_rows_of, save_png, to_picture
from srsoup_lightning.samplers.base import Soup

TILE = 128  # pixels a small picture is enlarged to
LARGEST = 256  # pixels that the longer side of a soup's pictures is brought down to
LINE = 15  # pixels of a text line
LETTER = 7  # pixels a letter takes
GAP = 6


class Tile(NamedTuple):
    """A picture on a sheet, and the lines above and below it."""

    picture: Image.Image
    above: Sequence[str]
    below: Sequence[str]


def write_sheets(run: RunDirectory) -> list[Path]:
    """Draw the sheet of every prompt in the run and return their paths.

    Preferences go from left to right, seeds from top to bottom.
    """
    by_prompt: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in run.sample_rows():
        by_prompt[row["prompt"]].append(row)
    paths = []
    for prompt, rows in by_prompt.items():
        path = run.sheets / f"{prompt_slug(prompt)}.png"
        save_png(draw_sheet(prompt, _by_seed(run, rows)), path)
        paths.append(path)
    return paths


def _by_seed(run: RunDirectory, rows: Sequence[Mapping[str, Any]]) -> list[list[Tile | None]]:
    seeds = sorted({row["seed"] for row in rows})
    preferences = list(dict.fromkeys(tuple(row["preference"].items()) for row in rows))
    grid: list[list[Tile | None]] = [[None] * len(preferences) for _ in seeds]
    for row in rows:
        line, column = seeds.index(row["seed"]), preferences.index(tuple(row["preference"].items()))
        with Image.open(run.root / row["image"]) as picture:
            grid[line][column] = _tile(row, picture.copy(), labelled=line == 0)
    return grid


def soup_sheet(soup: Soup) -> Image.Image:
    """The pictures of one soup, reduced where they are large, in about as many rows as columns."""
    tiles: list[Tile | None] = []
    for row, image in zip(sample_rows_of(soup), soup.images, strict=True):
        picture = to_picture(image)
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
        tiles.append(_tile(row, picture, labelled=True))
    columns = ceil(sqrt(len(tiles)))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    return draw_sheet(f"{soup.prompt}, seed {soup.seed}", rows)


def _tile(row: Mapping[str, Any], picture: Image.Image, labelled: bool) -> Tile:
    weights = [f"{name} {weight:.3g}" for name, weight in row["preference"].items()]
    return Tile(picture, weights if labelled else (), [f"{name} {score:.3f}" for name, score in row["rewards"].items()])


def draw_sheet(title: str, rows: Sequence[Sequence[Tile | None]]) -> Image.Image:
    """Tiles of pictures of one size in rows, the first of them full; small ones are enlarged without smoothing."""
    first = next(tile.picture for tile in rows[0] if tile)
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
            sheet.paste(tile.picture.resize((width, height), Image.Resampling.NEAREST), (left, picture_top))
            draw.multiline_text((left, picture_top + height), "\n".join(tile.below), fill="black", font=font, spacing=2)
        top = picture_top + height + under * LINE + GAP
    return sheet
