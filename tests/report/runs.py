"""Runs made up for reports, with scores that are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from PIL import Image

Weights = Sequence[float]
Scores = Callable[[str, int, Weights], Sequence[float]]  # prompt, seed, preference -> a score a reward
LINE = ((1.0, 0.0), (0.5, 0.5), (0.0, 1.0))


def make_run(
    root: Path,
    scores: Scores,
    prompts: Sequence[str] = ("a cat", "a dog"),
    seeds: Sequence[int] = (0, 1),
    preferences: Sequence[Weights] = LINE,
    rewards: Sequence[str] = ("jpeg", "clip"),
    size: tuple[int, int] = (8, 8),
    cost: Mapping[str, object] | None = {
        "queries": {"jpeg": 30, "clip": 20},
        "nfe": 100,
        "decodes": 50,
        "seconds": 2.0,
    },
) -> str:
    """Write a run directory, grey pictures that are the lighter the more the first reward weighs; its path."""
    rows, costs = [], []
    for p, prompt in enumerate(prompts):
        for seed in seeds:
            for k, weights in enumerate(preferences):
                path = Path("samples") / str(p) / str(seed) / f"{k}.png"
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", size, (round(255 * weights[0]),) * 3).save(root / path)
                row = {"prompt": prompt, "seed": seed, "preference": dict(zip(rewards, weights, strict=True))}
                found = dict(zip(rewards, scores(prompt, seed, weights), strict=True))
                rows.append({**row, "rewards": found, "image": path.as_posix()})
            if cost is not None:
                costs.append({"prompt": prompt, "seed": seed, "device": "cpu", **cost})
    write_rows(root / "samples.jsonl", rows)
    write_rows(root / "ledger.jsonl", costs)
    return str(root)


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
