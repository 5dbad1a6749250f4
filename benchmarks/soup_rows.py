"""Rows of a benchmark's soups. Each soup is made once, measured in units of unsteered pictures, and has one row.

Rows stay over sittings. A benchmark that was stopped goes on, and a later sitting adds methods, prompts and seeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from benchmarks.machine import describe
from rewards.features import ImageNetFeatures
from srsoup_lightning import PromptDataModule, SRSoupModule
from srsoup_lightning.callbacks import SampleWriter
from srsoup_lightning.pareto.bootstrap import prompt_means
from srsoup_lightning.pareto.diversity import Embedding, thumbnails
from srsoup_lightning.report.compare import compared
from srsoup_lightning.report.comparison import estimate
from srsoup_lightning.report.measures import training_costs
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.files import read_rows, to_lines, write_atomically
from srsoup_lightning.runs.rows import grouped

UNSTEERED = range(1_000, 1_032)  # seeds of the pictures of each prompt that the units come from
FACTS = ("sampler", "nfe_at_most")  # of a row, which may change while its method stays the same
Row = Mapping[str, Any]
Values = dict[str, dict[str, list[float]]]  # measure -> prompt -> one value for each seed


class Remembered:
    """Embedding that sees each picture once. The unsteered ones come back with every method.

    Args:
        embedding: The embedding.
    """

    def __init__(self, embedding: Embedding) -> None:
        self.embedding, self._vectors = embedding, {}

    def __call__(self, images: Tensor) -> Tensor:
        """Return the vectors (B, D) of images (B, 3, H, W)."""
        keys = [blake2b(image.numpy().tobytes()).digest() for image in images]
        for key, image in zip(keys, images, strict=True):
            if key not in self._vectors:
                self._vectors[key] = self.embedding(image[None])
        return torch.cat([self._vectors[key] for key in keys])


@cache
def imagenet_features() -> Embedding:
    """The embedding that diversity is measured by in comparisons at equal cost."""
    return Remembered(ImageNetFeatures())


def predict(root: Path, module: SRSoupModule, prompts: Sequence[str], seeds: Sequence[int]) -> Path:
    """Make the soups that are missing, and return the run directory. It keeps the prompts that it has already."""
    kept = (row["prompt"] for _, row in read_rows(RunDirectory(root).ledger))
    prompts = list(dict.fromkeys([*kept, *prompts]))
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(callbacks=[SampleWriter(str(root))], logger=False, **quiet)
    trainer.predict(module, PromptDataModule(prompts, list(seeds)), return_predictions=False)
    return root


def measured(
    base: Path, root: Path, prompts: Sequence[str], seed: int, embedding: Embedding = thumbnails
) -> list[dict[str, Any]]:
    """Measure a run of one seed in units of unsteered pictures.

    Args:
        base: Run directory of the unsteered pictures of these prompts, and perhaps of others.
        root: Run directory of the soups of one seed.
        prompts: Prompts to measure, at least one.
        seed: The seed.
        embedding: See :func:`~srsoup_lightning.report.compare.compared`.

    Returns:
        A row for each prompt, with all its measures, and the costs of trained LoRAs.
    """
    _, run = compared([f"base={base}", f"soups={root}"], baseline="base", common=True, embedding=embedding).runs
    training = training_costs(run.run) if run.run.adapters else {}
    return [
        {"prompt": prompt, "seed": seed}
        | {name: by_prompt[prompt][0] for name, by_prompt in run.values.items() if prompt in by_prompt}
        | training
        for prompt in prompts
    ]


def add_rows(
    path: Path,
    about: Mapping[str, object],
    prompts: Sequence[str],
    seed: int,
    measures: Sequence[str],
    make: Callable[[list[str]], list[dict[str, Any]]],
) -> bool:
    """Add the rows of the soups that have none, and return whether there were such.

    Args:
        path: File of the rows.
        about: What tells a method and its setting from others, with "sampler" and "nfe_at_most". Rows whose sampler or
            plan differs are old: they are replaced, and so are rows without costs, which earlier benchmarks made.
        prompts: Prompts of the method.
        seed: Seed of the soups.
        measures: Names of the measures that rows keep.
        make: Makes the soups of prompts and measures them, see :func:`measured`.
    """
    same = {name: value for name, value in about.items() if name not in FACTS}.items()
    theirs = [row for _, row in read_rows(path) if row["seed"] == seed and same <= row.items()]
    known = {row["prompt"] for row in theirs if "nfe" in row and about.items() <= row.items()}
    missing = [prompt for prompt in prompts if prompt not in known]
    if not missing:
        return False
    made = make(missing)
    rows = [row for _, row in read_rows(path)]  # again, since another process may have written in the meantime
    rows = [row for row in rows if row not in theirs or row["prompt"] not in missing]
    for row in made:
        kept = {name: float(f"{row[name]:.6g}") for name in measures if row.get(name) is not None}
        rows.append({**about, "machine": describe(), "prompt": row["prompt"], "seed": seed, **kept})
    write_atomically(path, to_lines(rows))
    return True


def known_of(path: Path) -> dict[str, Any]:
    """What a JSON file of results knows already, by name. Nothing where there is no such file."""
    return json.loads(path.read_text()) if path.exists() else {}


def methods_of(rows: Iterable[Row], measures: Sequence[str], order: str) -> dict[str, Values]:
    """Values of each method, the one with the highest mean of the measure `order` first."""
    found = {name: _values(theirs, measures) for name, theirs in grouped(rows, lambda row: row["method"]).items()}
    return dict(sorted(found.items(), key=lambda item: -mean(item[1], order)))


def _values(rows: Iterable[Row], measures: Sequence[str]) -> Values:
    values: Values = {}
    for row in rows:
        for name in measures:
            if name in row:
                values.setdefault(name, {}).setdefault(row["prompt"], []).append(row[name])
    return values


def mean(values: Values, measure: str) -> float:
    """Mean of a measure over prompts, 0 where there is none."""
    return float(prompt_means(values[measure]).mean()) if measure in values else 0.0


def number(values: Values, measure: str, digits: int = 0) -> str:
    """Mean of a measure over prompts as text, a dash where rows don't have it."""
    return f"{mean(values, measure):,.{digits}f}" if measure in values else "—"


def interval(values: Values, measure: str) -> str:
    """Mean of a measure and its interval over prompts as text, a dash where rows don't have it."""
    if measure not in values:
        return "—"
    found = estimate(values[measure])
    ends = "" if found["low"] is None else f" ({found['low']:.3f} to {found['high']:.3f})"
    return f"{found['mean']:.3f}{ends}"


def circumstances(rows: Sequence[Row]) -> str:
    """How many prompts and seeds rows have, and where they were made."""
    prompts = {row["prompt"] for row in rows}
    seeds = sorted({len(theirs) for theirs in grouped(rows, lambda row: (row["method"], row["prompt"])).values()})
    each = f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else f"{seeds[0]} seeds" if seeds[0] > 1 else "one seed"
    machines = "; ".join(dict.fromkeys(row["machine"] for row in rows))
    return f"{len(prompts)} prompts with {each} each, {rows[0]['dtype']}, {machines}."
