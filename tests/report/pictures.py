"""Runs on disk whose scores are known: ten times the weight of their reward."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from srsoup_lightning import Preferences
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.samplers import Soup


def write_run(
    root: Path,
    rewards: Sequence[str] = ("red", "blue"),
    divisions: int = 4,
    prompts: Sequence[str] = ("a cat",),
    seeds: Sequence[int] = (0,),
    side: int = 8,
) -> str:
    """A finished run over a lattice, every picture noise of its own; returns its path."""
    preferences = Preferences.lattice(rewards, divisions)
    noise = torch.Generator().manual_seed(0)
    for prompt in prompts:
        for seed in seeds:
            soup = Soup(
                prompt=prompt,
                seed=seed,
                reward_names=tuple(rewards),
                preference_names=tuple(preferences.names),
                preferences=preferences.weights,
                images=torch.rand(len(preferences), 3, side, side, generator=noise),
                rewards=10 * preferences.weights,
                failed=torch.zeros_like(preferences.weights, dtype=torch.bool),
                ledger=Ledger(dict.fromkeys(rewards, 100), nfe=40, decodes=5, seconds=1.5),
            )
            RunDirectory(root).write(soup)
    return str(root)


def change_first_row(table: Path, **changes: object) -> None:
    """Change the first row of a table of JSON lines."""
    first, *others = table.read_text().splitlines()
    table.write_text("\n".join([json.dumps(json.loads(first) | changes), *others]) + "\n")


def write_elsewhere(table: Path, prompts: Sequence[str] = ("a cat",), width: int = 12, height: int = 6) -> str:
    """A table of scored pictures that no preference is known of; returns its path."""
    table.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, prompt in enumerate(prompts):
        Image.new("RGB", (width, height), (40 * number, 90, 20)).save(table.parent / f"{number}.png")
        rows.append({"prompt": prompt, "image": f"{number}.png", "rewards": {"red": 2.5, "blue": 3.5}})
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(table)
