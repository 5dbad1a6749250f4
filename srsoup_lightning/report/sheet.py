"""Pictures on one sheet, scores below each: of a prompt in a run, or of a soup as soon as it is made."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from math import ceil, sqrt
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from srsoup_lightning.runs.directory import RunDirectory, prompt_slug, sample_rows_of, save_png, to_picture
from srsoup_lightning.runs.pictures import open_picture
from srsoup_lightning.samplers.result import Soup

TILE = 128  # pixels a small picture is enlarged to
LARGEST = 256  # pixels that the longer side of a soup's pictures is brought down to
LINE = 15  # pixels of a text line
LETTER = 7  # pixels a letter takes
GAP = 6
SEEDS = 16  # the first ones, of prompts that have more: a sheet is to be looked at


class Tile(NamedTuple):
    """A picture on a sheet, opened when it is drawn, and the lines above and below it."""

    open: Callable[[], AbstractContextManager[Image.Image]]
    above: Sequence[str]
    below: Sequence[str]


def write_sheets(run: RunDirectory, rows: Iterable[Mapping[str, Any]], changed: Collection[str] | None = None) -> None:
    """Draw the sheets of prompts in the run: preferences from left to right, some seeds from top to bottom.

    Args:
        run: Where the pictures are and the sheets go.
        rows: Its rows of samples.jsonl.
        changed: Prompts whose sheet is to be drawn anew if there is one; None takes all.
    """
    by_prompt: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_prompt[row["prompt"]].append(row)
    for prompt, its_rows in by_prompt.items():
        path = run.sheets / f"{prompt_slug(prompt)}.png"
        if changed is None or prompt in changed or not path.is_file():
            save_png(draw_sheet(prompt, _by_seed(run, its_rows)), path)


def _by_seed(run: RunDirectory, all_rows: Sequence[Mapping[str, Any]]) -> list[list[Tile | None]]:
    seeds = sorted({row["seed"] for row in all_rows})[:SEEDS]
    rows = [row for row in all_rows if row["seed"] in seeds]
    preferences = list(dict.fromkeys(tuple(row["preference"].items()) for row in rows))
    grid: list[list[Tile | None]] = [[None] * len(preferences) for _ in seeds]
    for row in rows:
        line, column = seeds.index(row["seed"]), preferences.index(tuple(row["preference"].items()))
        grid[line][column] = _tile(row, partial(open_picture, run.picture(row["image"])), labelled=line == 0)
    return grid


def soup_sheet(soup: Soup) -> Image.Image:
    """The pictures of one soup, reduced where they are large, in about as many rows as columns."""
    tiles: list[Tile | None] = []
    for row, image in zip(sample_rows_of(soup), soup.images, strict=True):
        tiles.append(_tile(row, partial(_thumbnail, image), labelled=True))
    columns = ceil(sqrt(len(tiles)))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    return draw_sheet(f"{soup.prompt}, seed {soup.seed}", rows)


def _thumbnail(image: Tensor) -> Image.Image:
    picture = to_picture(image)
    picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return picture


def _tile(row: Mapping[str, Any], opened: Callable[[], AbstractContextManager[Image.Image]], labelled: bool) -> Tile:
    weights = [f"{name} {weight:.3g}" for name, weight in row["preference"].items()]
    return Tile(opened, weights if labelled else (), [f"{name} {score:.3f}" for name, score in row["rewards"].items()])


def draw_sheet(title: str, rows: Sequence[Sequence[Tile | None]]) -> Image.Image:
    """Tiles of pictures of one size in rows, the first of them full; small ones are enlarged without smoothing."""
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
                sheet.paste(picture.resize((width, height), Image.Resampling.NEAREST), (left, picture_top))
            draw.multiline_text((left, picture_top + height), "\n".join(tile.below), fill="black", font=font, spacing=2)
        top = picture_top + height + under * LINE + GAP
    return sheet
