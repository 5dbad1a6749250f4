"""Runs on disk whose scores are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from srsoup_lightning import Preferences

Weights = Sequence[float]
Scores = Callable[[str, int, Weights], Sequence[float]]  # prompt, seed, preference -> a score for each reward
LINE = ((1.0, 0.0), (0.5, 0.5), (0.0, 1.0))
COST = {"queries": {"jpeg": 30, "clip": 20}, "nfe": 100, "decodes": 50, "seconds": 2.0}


def make_run(
    root: Path,
    scores: Scores,
    prompts: Sequence[str] = ("a cat", "a dog"),
    seeds: Sequence[int] = (0, 1),
    preferences: Sequence[Weights] = LINE,
    rewards: Sequence[str] = ("jpeg", "clip"),
    size: tuple[int, int] = (8, 8),
    cost: Mapping[str, object] | None = COST,
    noisy: bool = False,
) -> str:
    """Write a run directory and return its path.

    Pictures are grey, lighter the more the first reward weighs; or each is noise of its own.
    """
    rows, costs, noise = [], [], np.random.default_rng(0)
    for p, prompt in enumerate(prompts):
        for seed in seeds:
            for k, weights in enumerate(preferences):
                path = Path("samples") / str(p) / str(seed) / f"{k}.png"
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                grey = Image.new("RGB", size, (round(255 * weights[0]),) * 3)
                pixels = noise.integers(0, 256, (*size[::-1], 3), np.uint8)
                (Image.fromarray(pixels) if noisy else grey).save(root / path)
                row = {"prompt": prompt, "seed": seed, "preference": dict(zip(rewards, weights, strict=True))}
                found = dict(zip(rewards, scores(prompt, seed, weights), strict=True))
                rows.append({**row, "rewards": found, "image": path.as_posix()})
            if cost is not None:
                costs.append({"prompt": prompt, "seed": seed, "device": "cpu", **cost})
    write_rows(root / "samples.jsonl", rows)
    write_rows(root / "ledger.jsonl", costs)
    return str(root)


def write_run(
    root: Path,
    rewards: Sequence[str] = ("red", "blue"),
    divisions: int = 4,
    prompts: Sequence[str] = ("a cat",),
    seeds: Sequence[int] = (0,),
    side: int = 8,
) -> str:
    """Write a run over a lattice, with scores of ten times the weights and noisy pictures, and return its path."""
    lattice = [[round(w, 6) for w in weights] for weights in Preferences.lattice(rewards, divisions).weights.tolist()]
    cost = {"queries": dict.fromkeys(rewards, 100), "nfe": 40, "decodes": 5, "seconds": 1.5}
    return make_run(
        root, lambda prompt, seed, weights: [10 * weight for weight in weights], prompts, seeds, lattice, rewards,
        (side, side), cost, noisy=True,
    )  # fmt: skip


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def change_first_row(table: Path, **changes: object) -> None:
    """Change the first row of a table of JSON lines."""
    first, *others = read_rows(table)
    write_rows(table, [first | changes, *others])


def write_elsewhere(table: Path, prompts: Sequence[str] = ("a cat",), width: int = 12, height: int = 6) -> str:
    """Write a table of scored pictures without preferences and return its path."""
    table.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, prompt in enumerate(prompts):
        Image.new("RGB", (width, height), (40 * number, 90, 20)).save(table.parent / f"{number}.png")
        rows.append({"prompt": prompt, "image": f"{number}.png", "rewards": {"red": 2.5, "blue": 3.5}})
    write_rows(table, rows)
    return str(table)
