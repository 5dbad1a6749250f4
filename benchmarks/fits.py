"""Trainings of benchmarks: builtin configs of ``srsoup fit``, in run directories that go on where they were stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from srsoup_lightning.builtin import CONFIGS
from srsoup_lightning.cli.main import main as srsoup

TRAIN = "model.training"
OBJECTIVE = f"{TRAIN}.objective.init_args"
WEIGHTS = "model.preferences.init_args.weights"
LARGER_STEPS = {f"{OBJECTIVE}.method.init_args.beta": "0.1", f"{TRAIN}.updates": "4"}  # those of animals_conditioned


def prompts_of(config: str) -> str:
    """Prompts of a builtin config, as JSON."""
    return json.dumps(yaml.safe_load(CONFIGS.find(config).read_text())["data"]["prompts"])


def fit(name: str, root: Path, config: str, seed: int, options: Mapping[str, str]) -> None:
    """Train by a config, or go on with it.

    Args:
        name: Name of the training in messages.
        root: Run directory.
        config: Name of the builtin config.
        seed: Seed of the training and of its adapter.
        options: Other options of the command line, which win.

    Raises:
        RuntimeError: The training has failed.
    """
    given = {
        "trainer.default_root_dir": str(root),
        "trainer.enable_progress_bar": "false",
        f"{TRAIN}.seed": str(seed),
        f"{TRAIN}.lora.seed": str(seed),
    }
    flags = [text for key, value in (given | dict(options)).items() for text in (f"--{key}", value)]
    if srsoup(["fit", "--config", config, *flags]):
        raise RuntimeError(f"{name}, seed {seed} has failed in {root}")
