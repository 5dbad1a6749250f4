"""Methods on a rectified flow, with each transition: ``python -m benchmarks.flows``.

All of them on tiny-animals-flow, for two rewards and five preferences. How fronts are judged is in
:mod:`benchmarks.front`: against unsteered samples of the same prompt and the same transition. A soup's row is written
as soon as it is done and never made again, so a run that was stopped goes on. The table is written from the rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from rich.console import Console

from benchmarks.front import Run, measure, runner, unsteered_scales
from benchmarks.machine import describe
from benchmarks.query_efficiency import append_rows, read_rows, scale_of
from rewards import CLIPScore, JPEGCompressibility
from srsoup_lightning import Loading, Preferences
from srsoup_lightning.pareto import interval
from srsoup_lightning.samplers import BaseModel, BestOfN, FixedSoup, Sampler, SRSoup, WeightedSum

STEPS = {"num_inference_steps": 20, "guidance_scale": 5.0}
NOISE = {"ancestral": 1.0, "sde": 0.7, "cps": 0.9}  # eta of each transition; that of sde is Flow-GRPO's
REWARDS = ("jpeg", "clip")
SAME = ("transition", "method", "prompt", "seed")


def methods(eta: float) -> dict[str, Sampler]:
    """The methods, by name, with this amount of noise."""
    common = {**STEPS, "eta": eta}
    return {
        "BaseModel": BaseModel(**common),
        "BestOfN(32)": BestOfN(**common, pool=32),
        "WeightedSum, N = 8": WeightedSum(**common, candidates=8),
        "FixedSoup(0, 8), N = 8": SRSoup(**common, candidates=8, sharing=FixedSoup(0, 8)),
    }


def main(
    out: Path = Path("benchmarks/results/flows.jsonl"),
    table: Path = Path("benchmarks/results/flows.md"),
    transitions: list[str] = list(NOISE),  # noqa: B006 - jsonargparse shows the default
    prompts: list[str] = ["a snail", "a lobster", "an octopus", "a zebra"],  # noqa: B006
    seeds: list[int] = [0],  # noqa: B006
    unsteered: int = 24,
) -> None:
    """Make the soups that have no row yet, and write the table.

    Args:
        out: Where the rows go.
        table: Where the table goes.
        transitions: Transitions of the flow.
        prompts: Prompts.
        seeds: Seeds of each prompt.
        unsteered: Unsteered samples of each prompt and transition that fix its scale.
    """
    rewards = {"jpeg": JPEGCompressibility(), "clip": CLIPScore("tiny-clip")}
    preferences = Preferences.lattice(REWARDS, 4)
    for transition in transitions:
        run = runner("tiny-animals-flow", rewards, preferences, Loading(transition=transition))
        chosen = methods(NOISE[transition])
        for prompt in prompts:
            moments = _moments(out, run, BaseModel(**STEPS, eta=NOISE[transition]), transition, prompt, unsteered)
            scale = scale_of({"moments": moments}, REWARDS)
            for name, sampler in chosen.items():
                for seed in seeds:
                    row = {"transition": transition, "method": name, "prompt": prompt, "seed": seed}
                    if any(all(made.get(key) == row[key] for key in SAME) for made in read_rows(out)):
                        continue
                    (soup,) = run(sampler, [prompt], [seed])
                    about = {"machine": describe(), "dtype": "float32", "threads": torch.get_num_threads()}
                    append_rows(out, [row | measure(soup, scale) | about])
                    Console().print(f"{transition}, {name}, {prompt}, {seed}", markup=False, highlight=False)
    table.write_text(as_markdown([row for row in read_rows(out) if "method" in row]) + "\n")


def _moments(
    out: Path,
    run: Run,
    base: BaseModel,
    transition: str,
    prompt: str,
    samples: int,
) -> dict[str, list[float]]:
    """Mean and standard deviation of unsteered samples by reward, from the file, or made and kept there."""
    wanted = {"transition": transition, "prompt": prompt, "samples": samples}
    for row in read_rows(out):
        if all(row.get(key) == value for key, value in wanted.items()):
            return row["moments"]
    scale = unsteered_scales(run, base, [prompt], samples)[prompt]
    moments = dict(zip(REWARDS, torch.stack([scale.zero, scale.unit], 1).tolist(), strict=True))
    append_rows(out, [{**wanted, "moments": moments}])
    return moments


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table: means over prompts with bootstrap intervals, and costs of a soup."""
    lines = [
        "| transition | method | soups | utility | hypervolume | queries | network evaluations |",
        "|---|---|---|---|---|---|---|",
    ]
    by_method: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_method[row["transition"], row["method"]].append(row)
    for (transition, method), soups in by_method.items():
        cells = [
            transition,
            method,
            str(len(soups)),
            *(_told(soups, measure) for measure in ("utility", "hypervolume")),
        ]
        cells += [f"{sum(soup[cost] for soup in soups) / len(soups):,.0f}" for cost in ("queries", "nfe")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _told(soups: Sequence[dict[str, Any]], measure: str) -> str:
    values: dict[str, list[float]] = defaultdict(list)
    for soup in soups:
        values[soup["prompt"]].append(soup[measure])
    found = interval(values)
    return f"{found['mean']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


if __name__ == "__main__":
    auto_cli(main)
