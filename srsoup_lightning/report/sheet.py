"""One PNG a prompt: preferences from left to right, some seeds from top to bottom, scores below each picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from srsoup_lightning.pictures import open_picture
from srsoup_lightning.run_directory import RunDirectory, prompt_slug, save_png

TILE = 128  # pixels a small picture is enlarged to
LINE = 15  # pixels of a text line
GAP = 6
SEEDS = 16  # the first ones, of prompts that have more: a sheet is to be looked at


def write_sheets(run: RunDirectory, rows: Iterable[Mapping[str, Any]], changed: Collection[str] | None = None) -> None:
    """Draw the sheets of prompts in the run.

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
            save_png(_draw(run, prompt, its_rows), path)


def _draw(run: RunDirectory, prompt: str, all_rows: Sequence[Mapping[str, Any]]) -> Image.Image:
    seeds = sorted({row["seed"] for row in all_rows})[:SEEDS]
    rows = [row for row in all_rows if row["seed"] in seeds]
    preferences = list(dict.fromkeys(tuple(row["preference"].items()) for row in rows))
    names = [name for name, _ in preferences[0]]
    with open_picture(run.picture(rows[0]["image"])) as first:
        scale = max(1, round(TILE / first.width))
        width, height = first.width * scale, first.height * scale
    head, foot = LINE * (1 + len(names)) + GAP, LINE * len(names) + GAP
    sheet = Image.new("RGB", (len(preferences) * (width + GAP) + GAP, head + len(seeds) * (height + foot)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    draw.text((GAP, 1), prompt[: sheet.width // 7], fill="black", font=font)
    for column, preference in enumerate(preferences):
        lines = "\n".join(f"{name} {weight:.3g}" for name, weight in preference)
        draw.multiline_text((GAP + column * (width + GAP), LINE), lines, fill="#555555", font=font, spacing=2)
    for row in rows:
        left = GAP + preferences.index(tuple(row["preference"].items())) * (width + GAP)
        top = head + seeds.index(row["seed"]) * (height + foot)
        with open_picture(run.picture(row["image"])) as picture:
            sheet.paste(picture.resize((width, height), Image.Resampling.NEAREST), (left, top))
        lines = "\n".join(f"{name} {score:.3f}" for name, score in row["rewards"].items())
        draw.multiline_text((left, top + height), lines, fill="black", font=font, spacing=2)
    return sheet
