"""One training for every preference, beside search: ``python -m benchmarks.adapters``.

Each training is a builtin config of ``srsoup fit``. Then each method makes the pictures of eleven preferences on
prompts of the training and on animals that are held out of it, and they are measured in units of the unsteered pictures
of each prompt. A seed is that of the trainings and of the pictures. Trainings are made when a method needs them. They
and the runs are run directories: what was stopped goes on. Soups that have rows are not made again, see
:mod:`benchmarks.soup_rows`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli
from rich.console import Console

from benchmarks.fits import LARGER_STEPS, OBJECTIVE, TRAIN, WEIGHTS, fit, prompts_of
from benchmarks.soup_rows import UNSTEERED, add_rows, imagenet_features, measured, predict
from rewards import CLIPScore, Colorfulness, JPEGCompressibility
from srsoup_lightning import Loading, Preferences, SRSoupModule
from srsoup_lightning.adapters import MORL, Adapters, DiffusionBlend, PreferenceConditioned, RewardedSoup
from srsoup_lightning.cli.merge import merge
from srsoup_lightning.samplers import BaseModel, Fast, Sampler, SRSoup, WeightedSum
from srsoup_lightning.search.pooling import Pooled
from srsoup_lightning.search.sharing import FixedSoup

RESULTS = Path("benchmarks/results/adapters")
TRAINED = ("a hippopotamus", "a snail", "a leopard", "a crocodile", "a lobster", "an octopus", "a zebra", "a butterfly")
HELD_OUT = (  # all six animals that the trainings don't have, two of them in other scenes too
    *("a whale", "a turtle", "a frog", "a duck", "a bee", "a pig"),
    *("two ducks", "a turtle on a blue background"),
)
SETS = {"trained": TRAINED, "held out": HELD_OUT}
ALIKE = LARGER_STEPS | {f"{TRAIN}.lora.rank": "8"}  # of a reward alone: half of the ranks of animals_conditioned
ALONE = {"jpeg": {WEIGHTS: "[[1, 0]]"} | ALIKE, "clip": {WEIGHTS: "[[0, 1]]"} | ALIKE}
SCENES = {"data.prompts": prompts_of("animals_conditioned")}  # each animal in four scenes
PLAIN = {  # the conditioned adapter on the prompts of adapters of one reward, with the default share of corners
    "data.prompts": prompts_of("animals_nft"),
    f"{TRAIN}.conditioning": '{"kind": "ranks", "corners": null}',
}
REDUCTIONS, EPOCHS = 3, 4  # rounds of MapReduce LoRA, and epochs of each: together those of one training
SCORED = ("base", "seed_0/WeightedSum", "seed_0/SRSoup", "seed_0/Pooled")  # that RewardsInContext learns from
DIVISIONS = 10  # eleven preferences
POINTS = [{"jpeg": number / DIVISIONS, "clip": 1 - number / DIVISIONS} for number in range(DIVISIONS + 1)]
KEPT = (  # measures of a row
    *("hypervolume", "utility", "diversity", "monotonicity_jpeg", "monotonicity_clip", "mean_colour"),
    *("queries", "nfe", "seconds", "training_queries", "training_nfe", "training_gradients", "training_seconds"),
)


def common(steps: int = 20) -> dict[str, object]:
    """Options of every method."""
    return {"num_inference_steps": steps, "guidance_scale": 5.0}


def pooled(candidates: int) -> SRSoup:
    """A soup whose trajectories pool their candidates, with unguided previews and without a selected start."""
    return SRSoup(candidates=candidates, sharing=Pooled(), preview="unguided", **common())


def slug(method: str) -> str:
    """Name of a method's folder."""
    return method.replace(", ", "_").replace(" ", "_")


@dataclass(frozen=True)
class Trained:
    """Trainings of one seed, each made when it is asked for.

    Attributes:
        workdir: Folder of the run directories.
        seed: Seed of the trainings and of their adapters.
    """

    workdir: Path
    seed: int

    def adapter(self, name: str, config: str, options: dict[str, str]) -> str:
        """Train an adapter, or go on with it, and return its folder."""
        root = self.workdir / f"{name}-{self.seed}"
        fit(name, root, config, self.seed, {"trainer.check_val_every_n_epoch": "100"} | options)
        return str(root / "adapter")

    def pair(self) -> dict[str, str]:
        """An adapter of each reward, trained by itself."""
        return {name: self.adapter(name, "animals_nft", options) for name, options in ALONE.items()}

    def pair_on_scenes(self) -> dict[str, str]:
        """The same on varied scenes."""
        return {
            name: self.adapter(f"scenes_{name}", "animals_nft", options | SCENES) for name, options in ALONE.items()
        }

    def reduced(self) -> dict[str, str]:
        """An adapter of each reward by MapReduce LoRA: each round starts from the mean of both of the last one."""
        pair: dict[str, str] = {}
        for number in range(REDUCTIONS):
            start: dict[str, str] = {}
            if pair:
                mean = str(self.workdir / f"mean{number}-{self.seed}")
                merge(dict.fromkeys(pair.values(), 0.5), mean, rank=8, overwrite=True)
                start = {f"{TRAIN}.lora.start": mean}
            given = start | {"trainer.max_epochs": str(EPOCHS), f"{TRAIN}.seed": str(10 * self.seed + number)}
            pair = {name: self.adapter(f"map{number}_{name}", "animals_nft", ALONE[name] | given) for name in ALONE}
        return pair

    def factors(self) -> dict[str, dict[str, float]]:
        """For each preference, the mean of the factors of both adapters, as one adapter."""
        pair, means = self.pair(), {}
        for number, weights in enumerate(POINTS):
            folder = str(self.workdir / f"factors-{self.seed}" / str(number))
            merge({pair[name]: weight for name, weight in weights.items()}, folder, average="factors", overwrite=True)
            means[folder] = weights
        return means

    def each(self) -> dict[str, dict[str, float]]:
        """An adapter of each preference; those of the extremes are the adapters of a reward alone."""
        pair, found = self.pair(), {}
        for number, weights in enumerate(POINTS):
            alone = [name for name, weight in weights.items() if weight == 1]
            options = {WEIGHTS: json.dumps([list(weights.values())])} | ALIKE
            source = pair[alone[0]] if alone else self.adapter(f"each{number}", "animals_nft", options)
            found[source] = weights
        return found

    def conditioned(self) -> PreferenceConditioned:
        """An adapter whose input is the preference, by matching, on the prompts of all other trainings."""
        return PreferenceConditioned(self.adapter("conditioned", "animals_conditioned", PLAIN))

    def on_scenes(self) -> PreferenceConditioned:
        """The same on varied scenes, with more groups of one reward alone: the config as it is."""
        return PreferenceConditioned(self.adapter("scenes", "animals_conditioned", {}))

    def distilled(self) -> PreferenceConditioned:
        """An adapter whose input is the preference, by distillation of a search."""
        return PreferenceConditioned(self.adapter("distilled", "animals_distillation", {}))

    def in_context(self) -> PreferenceConditioned:
        """An adapter whose inputs are scores, from the first seed's pictures on prompts of the training.

        Raises:
            FileNotFoundError: These pictures are not made yet.
        """
        pictures = self.workdir / "trained"
        runs = [pictures / name for name in SCORED]
        if missing := [str(run) for run in runs if not run.is_dir()]:
            raise FileNotFoundError(f"rewards in context learn from {missing}: make these methods first")
        objective = {f"{OBJECTIVE}.runs": json.dumps([str(run) for run in runs])}
        return PreferenceConditioned(self.adapter("in_context", "animals_in_context", objective))


METHODS: dict[str, Callable[[Trained], tuple[Sampler, Adapters | None]]] = {
    "BaseModel": lambda _: (BaseModel(**common()), None),
    "WeightedSum": lambda _: (WeightedSum(candidates=6, **common()), None),
    "SRSoup": lambda _: (SRSoup(candidates=9, sharing=FixedSoup(0, 8), **common()), None),
    "Fast without resampling": lambda _: (Fast(**common(), resampling=None), None),
    "Pooled": lambda _: (pooled(15), None),
    "RewardedSoup": lambda at: (BaseModel(**common()), RewardedSoup(at.pair())),
    "RewardedSoup on scenes": lambda at: (BaseModel(**common()), RewardedSoup(at.pair_on_scenes())),
    "RewardedSoup, factors": lambda at: (BaseModel(**common()), MORL(at.factors())),
    "MapReduce": lambda at: (BaseModel(**common()), RewardedSoup(at.reduced())),
    "MORL": lambda at: (BaseModel(**common()), MORL(at.each())),
    "DiffusionBlend": lambda at: (BaseModel(**common()), DiffusionBlend(at.pair())),
    "DiffusionBlend, drawn": lambda at: (BaseModel(**common()), DiffusionBlend(at.pair(), mode="drawn")),
    "Conditioned": lambda at: (BaseModel(**common()), at.conditioned()),
    "Conditioned on scenes": lambda at: (BaseModel(**common()), at.on_scenes()),
    "Distilled": lambda at: (BaseModel(**common()), at.distilled()),
    "InContext": lambda at: (BaseModel(**common()), at.in_context()),
    "Pooled on RewardedSoup": lambda at: (pooled(4), RewardedSoup(at.pair())),
    "Pooled on Conditioned": lambda at: (pooled(4), at.conditioned()),
    "Pooled on Conditioned on scenes": lambda at: (pooled(4), at.on_scenes()),
    "Pooled, 4 candidates": lambda _: (pooled(4), None),
}


def module(sampler: Sampler, adapters: Adapters | None, dtype: str) -> SRSoupModule:
    """A module with the rewards and preferences of the comparison."""
    rewards = {"jpeg": JPEGCompressibility(), "clip": CLIPScore("tiny-clip"), "colour": Colorfulness()}
    preferences = Preferences.lattice(["jpeg", "clip"], DIVISIONS, ["colour"])
    return SRSoupModule("tiny-animals", rewards, sampler, preferences, loading=Loading(dtype=dtype), adapters=adapters)


def soups(base: Path, root: Path, made: SRSoupModule, seed: int, prompts: list[str]) -> list[dict[str, Any]]:
    """Make the soups of a method, and return their rows."""
    return measured(base, predict(root, made, prompts, [seed]), prompts, seed, imagenet_features())


def main(
    out: Path = RESULTS,
    workdir: Path = Path("build/adapters"),
    methods: list[str] = list(METHODS),  # noqa: B006 - jsonargparse shows the default
    sets: list[str] = list(SETS),  # noqa: B006
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    dtype: str = "float32",
) -> None:
    """Train, make the pictures and write the rows of each set of prompts.

    Args:
        out: Folder of the rows.
        workdir: Folder of the run directories.
        methods: Which methods, by name. Each trains what it needs.
        sets: Which sets of prompts, by name.
        seeds: Seeds of the trainings and of every prompt.
        dtype: Precision of the networks when they make pictures. Trainings are in float32.
    """
    for seed in seeds:
        trained = Trained(workdir, seed)
        for label in sets:
            prompts, root = list(SETS[label]), workdir / label.replace(" ", "_")
            base = predict(root / "base", module(BaseModel(**common()), None, dtype), prompts, UNSTEERED)
            for name in methods:
                made = module(*METHODS[name](trained), dtype)
                about = {"prompts": label, "method": name, "sampler": repr(made.sampler), "dtype": dtype}
                make = partial(soups, base, root / f"seed_{seed}" / slug(name), made, seed)
                if add_rows(out / "soups.jsonl", about, prompts, seed, KEPT, make):
                    Console().print(f"{label}, seed {seed}: {name}", markup=False, highlight=False)


if __name__ == "__main__":
    auto_cli(main)
