"""One training for every preference, beside search: ``python -m benchmarks.adapters``.

Each training is a builtin config of ``srsoup fit``, for a seed. Then each method makes the pictures of eleven
preferences on prompts of the training and on animals that are held out of it, and they are measured in units of the
unsteered pictures of each prompt. Trainings and runs are run directories: what was stopped goes on. Soups that have
rows are not made again, see :mod:`benchmarks.soup_rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli
from rich.console import Console

from benchmarks.soup_rows import UNSTEERED, add_rows, measured, predict
from rewards import CLIPScore, Colorfulness, JPEGCompressibility
from rewards.features import ImageNetFeatures
from srsoup_lightning import Loading, Preferences, SRSoupModule
from srsoup_lightning.adapters import Adapters, DiffusionBlend, PreferenceConditioned, RewardedSoup
from srsoup_lightning.cli.main import main as srsoup
from srsoup_lightning.samplers import BaseModel, Fast, Sampler, SRSoup, WeightedSum
from srsoup_lightning.search.sharing import FixedSoup

RESULTS = Path("benchmarks/results/adapters")
TRAINED = ("a hippopotamus", "a snail", "a leopard", "a crocodile", "a lobster", "an octopus", "a zebra", "a butterfly")
HELD_OUT = ("a whale", "a turtle", "a frog", "a duck", "a bee", "a pig", "a crab", "a monkey")
SETS = {"trained": TRAINED, "held out": HELD_OUT}
ONE, RANK = "model.preferences.init_args.weights", "model.training.lora.rank"
TRAININGS: dict[str, tuple[str, dict[str, str]]] = {
    "jpeg": ("animals_nft", {RANK: "8"}),  # together the rank of an adapter that serves both
    "clip": ("animals_nft", {RANK: "8", ONE: "[[0, 1]]"}),
    "conditioned": ("animals_conditioned", {}),
    "distilled": ("animals_distillation", {}),
}
DIVISIONS = 10  # eleven preferences
KEPT = (  # measures of a row
    *("hypervolume", "utility", "diversity", "monotonicity_jpeg", "monotonicity_clip", "mean_colour"),
    *("queries", "nfe", "seconds", "training_queries", "training_nfe", "training_gradients", "training_seconds"),
)


def common(steps: int = 20) -> dict[str, object]:
    """Options of every method."""
    return {"num_inference_steps": steps, "guidance_scale": 5.0}


METHODS: dict[str, Callable[[Mapping[str, str]], tuple[Sampler, Adapters | None]]] = {
    "WeightedSum": lambda _: (WeightedSum(candidates=6, **common()), None),
    "SRSoup": lambda _: (SRSoup(candidates=9, sharing=FixedSoup(0, 8), **common()), None),
    "Fast": lambda _: (Fast(**common()), None),
    "RewardedSoup": lambda at: (BaseModel(**common()), RewardedSoup(pair(at))),
    "DiffusionBlend": lambda at: (BaseModel(**common()), DiffusionBlend(pair(at))),
    "DiffusionBlend, drawn": lambda at: (BaseModel(**common()), DiffusionBlend(pair(at), mode="drawn")),
    "Conditioned": lambda at: (BaseModel(**common()), PreferenceConditioned(at["conditioned"])),
    "Distilled": lambda at: (BaseModel(**common()), PreferenceConditioned(at["distilled"])),
    "Fast on RewardedSoup": lambda at: (Fast(candidates=4, **common()), RewardedSoup(pair(at))),
    "Fast on Conditioned": lambda at: (Fast(candidates=4, **common()), PreferenceConditioned(at["conditioned"])),
    "Fast, 4 candidates": lambda _: (Fast(candidates=4, **common()), None),
}


def pair(adapters: Mapping[str, str]) -> dict[str, str]:
    """The adapters of the two rewards."""
    return {name: adapters[name] for name in ("jpeg", "clip")}


def train(name: str, seed: int, workdir: Path) -> str:
    """Train an adapter, or go on with it, and return its folder.

    Raises:
        RuntimeError: The training has failed.
    """
    (config, options), root = TRAININGS[name], workdir / f"{name}-{seed}"
    given = {
        "trainer.default_root_dir": str(root),
        "trainer.enable_progress_bar": "false",
        "trainer.check_val_every_n_epoch": "100",
        "model.training.seed": str(seed),
        "model.training.lora.seed": str(seed),
    }
    flags = [text for key, value in (given | options).items() for text in (f"--{key}", value)]
    if srsoup(["fit", "--config", config, *flags]):
        raise RuntimeError(f"{name}, seed {seed} has failed in {root}")
    return str(root / "adapter")


def module(sampler: Sampler, adapters: Adapters | None, dtype: str) -> SRSoupModule:
    """A module with the rewards and preferences of the comparison."""
    rewards = {"jpeg": JPEGCompressibility(), "clip": CLIPScore("tiny-clip"), "colour": Colorfulness()}
    preferences = Preferences.lattice(["jpeg", "clip"], DIVISIONS, ["colour"])
    return SRSoupModule("tiny-animals", rewards, sampler, preferences, loading=Loading(dtype=dtype), adapters=adapters)


def soups(base: Path, root: Path, made: SRSoupModule, seed: int, prompts: list[str]) -> list[dict[str, Any]]:
    """Make the soups of a method, and return their rows."""
    return measured(base, predict(root, made, prompts, [seed]), prompts, seed, ImageNetFeatures())


def main(
    out: Path = RESULTS,
    workdir: Path = Path("build/adapters"),
    methods: list[str] = list(METHODS),  # noqa: B006 - jsonargparse shows the default
    trainings: list[str] = list(TRAININGS),  # noqa: B006
    sets: list[str] = list(SETS),  # noqa: B006
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    dtype: str = "float32",
) -> None:
    """Train, make the pictures and write the rows of each set of prompts.

    Args:
        out: Folder of the rows.
        workdir: Folder of the run directories.
        methods: Which methods, by name.
        trainings: Which trainings, by name. Methods that need others fail.
        sets: Which sets of prompts, by name.
        seeds: Seeds of every prompt. Seed 0 is that of the trainings.
        dtype: Precision of the networks.
    """
    adapters = {name: train(name, 0, workdir) for name in trainings}
    for label in sets:
        prompts, root = list(SETS[label]), workdir / label.replace(" ", "_")
        base = predict(root / "base", module(BaseModel(**common()), None, dtype), prompts, UNSTEERED)
        for seed in seeds:
            for name in methods:
                made = module(*METHODS[name](adapters), dtype)
                folder = root / f"seed_{seed}" / name.replace(", ", "_").replace(" ", "_")
                about = {"prompts": label, "method": name, "sampler": repr(made.sampler), "dtype": dtype}
                if add_rows(out / "soups.jsonl", about, prompts, seed, KEPT, partial(soups, base, folder, made, seed)):
                    Console().print(f"{label}, seed {seed}: {name}", markup=False, highlight=False)


if __name__ == "__main__":
    auto_cli(main)
