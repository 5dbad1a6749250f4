"""Hypervolume against queries and network evaluations: ``python -m benchmarks.query_efficiency``.

Every method, on tiny-animals, for two rewards and 11 preferences and for three and 21. How fronts are judged, and what
is fixed beforehand, is in :mod:`benchmarks.front`. A soup's row is written as soon as it is done and never made again,
so a run that was stopped goes on; two runs on other prompts may share the file. ``benchmarks.query_efficiency_report``
turns the rows into tables and figures. The seconds in a row may be of a machine with other work, or of a run that was
stopped in between; ``benchmarks.overhead`` says where time goes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from jsonargparse import auto_cli
from rich.console import Console

from benchmarks.front import COMMON, Run, measure, runner, unsteered_scales
from rewards import CLIPScore, Colorfulness, JPEGCompressibility, Reward
from srsoup_lightning import Loading, Preferences
from srsoup_lightning.pareto import Scale
from srsoup_lightning.samplers import (
    AdaptiveAnchors,
    Auto,
    BaseModel,
    BestOfN,
    FixedSoup,
    Gated,
    Pooled,
    Resampling,
    Sampler,
    SRSoup,
    Surrogate,
    WeightedSum,
)

RESULTS = Path("benchmarks/results/query_efficiency")
PROMPTS = (
    *("a hippopotamus", "a snail", "a leopard", "a crocodile", "a lobster", "an octopus"),  # the paper's animals
    *("a zebra", "a butterfly"),
)
SOUP = FixedSoup(0, round(0.4 * COMMON["num_inference_steps"]))  # the paper's share of the steps: 20 of 50
REWARDS: dict[str, Callable[[], Reward]] = {
    "jpeg": JPEGCompressibility,
    "clip": lambda: CLIPScore("tiny-clip"),
    "colour": Colorfulness,
}


@dataclass(frozen=True)
class Setting:
    """Which rewards, and how fine the lattice of preferences is."""

    rewards: tuple[str, ...]
    divisions: int

    @property
    def preferences(self) -> Preferences:
        """The lattice."""
        return Preferences.lattice(self.rewards, self.divisions)


SETTINGS = {"two rewards": Setting(("jpeg", "clip"), 10), "three rewards": Setting(("jpeg", "clip", "colour"), 5)}
METHODS: dict[str, Sampler] = {
    "BaseModel": BaseModel(**COMMON),
    # 170: the network evaluations of the weighted sum with N = 16 and of Auto. 546: the queries of Auto with N = 5.
    **{f"BestOfN({n})": BestOfN(**COMMON, pool=n) for n in (96, 170, 546)},
    **{f"WeightedSum, N = {n}": WeightedSum(**COMMON, candidates=n) for n in (8, 16, 30)},
    **{f"FixedSoup(0, {SOUP.end}), N = {n}": SRSoup(**COMMON, candidates=n, sharing=SOUP) for n in (16, 30)},
    "Gated(0.9), N = 16": SRSoup(**COMMON, candidates=16, sharing=Gated(0.9)),
    "AdaptiveAnchors(0.9), N = 16": SRSoup(**COMMON, candidates=16, sharing=AdaptiveAnchors(0.9)),
    "Pooled(), N = [4, 8, 8, 12]": SRSoup(**COMMON, candidates=[4, 8, 8, 12], sharing=Pooled()),
    "Pooled() and a surrogate, N = [4, 5, 5, 6]": SRSoup(
        **COMMON, candidates=[4, 5, 5, 6], sharing=Pooled(), surrogate=Surrogate()
    ),
    # The default, and as many as a fifth of the weighted sum's queries pay for: of N = 16 with three rewards, of N = 30
    # with two and with three.
    **{f"Auto(), N = {n}": Auto(**COMMON, candidates=n) for n in (Auto.candidates, 6, 11, 14)},
    **{f"Auto() with unguided previews, N = {n}": Auto(**COMMON, candidates=n, preview="unguided") for n in (5, 6)},
    **{
        f"Auto() with resampling, N = {n}": Auto(**COMMON, candidates=n, resampling=Resampling())
        for n in (Auto.candidates, 6, 11, 14)
    },
    "Auto() with resampling and unguided previews, N = 5": Auto(
        **COMMON, candidates=5, resampling=Resampling(), preview="unguided"
    ),
}


def main(
    out: Path = RESULTS,
    settings: list[str] = list(SETTINGS),  # noqa: B006 - jsonargparse shows the default
    methods: list[str] = list(METHODS),  # noqa: B006
    prompts: list[str] = list(PROMPTS),  # noqa: B006
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    unsteered: int = 64,
    dtype: str = "bfloat16",
) -> None:
    """Make the soups that have no row in `out` yet.

    Args:
        out: Folder of the rows and the scales.
        settings: Which settings, by name.
        methods: Which methods, by name.
        prompts: Which prompts.
        seeds: Seeds of every prompt.
        unsteered: Unsteered samples of each prompt that fix its scale.
        dtype: Precision of the denoising network and the decoder.
    """
    chosen, loading = {name: METHODS[name] for name in methods}, Loading(dtype=dtype)
    measure_methods(chosen, out, settings, prompts, seeds, unsteered, loading)


def measure_methods(
    methods: dict[str, Sampler],
    out: Path,
    settings: list[str],
    prompts: list[str],
    seeds: list[int],
    unsteered: int,
    loading: Loading,
) -> None:
    """Append the missing rows of methods by name; the other arguments are those of :func:`main`."""
    out.mkdir(parents=True, exist_ok=True)
    rewards = {name: make() for name, make in REWARDS.items()}
    moments = unsteered_moments(out / "unsteered.jsonl", rewards, prompts, unsteered, Loading(dtype=loading.dtype))
    for name in settings:
        setting = SETTINGS[name]
        chosen = {reward: rewards[reward] for reward in setting.rewards}
        run = runner("tiny-animals", chosen, setting.preferences, loading)
        scales = {prompt: scale_of(moments[prompt], setting.rewards) for prompt in prompts}
        made_with = {"setting": name, "dtype": loading.dtype, "threads": torch.get_num_threads()}
        _measure_setting(out / "soups.jsonl", run, scales, made_with, methods, seeds)


def unsteered_moments(
    path: Path, rewards: dict[str, Reward], prompts: list[str], samples: int, loading: Loading
) -> dict[str, dict]:
    """Each prompt's row of moments {reward: [mean, standard deviation]}, read where known and measured where not."""
    known = {row["prompt"]: row for row in read_rows(path) if row["samples"] == samples}
    run = runner("tiny-animals", rewards, Preferences.lattice(list(rewards), 1), loading)
    for prompt in prompts:
        if prompt not in known:
            scale = unsteered_scales(run, BaseModel(**COMMON), [prompt], samples)[prompt]
            moments = dict(zip(rewards, torch.stack([scale.zero, scale.unit], 1).tolist(), strict=True))
            known[prompt] = {"prompt": prompt, "samples": samples, "moments": moments}
            append_rows(path, [known[prompt]])
    return known


def scale_of(row: dict, rewards: tuple[str, ...]) -> Scale:
    """The scale of some rewards from a prompt's row of moments."""
    mean, std = torch.tensor([row["moments"][reward] for reward in rewards]).T
    return Scale(mean, std)


def _measure_setting(
    path: Path,
    run: Run,
    scales: dict[str, Scale],
    made_with: dict[str, str | int],
    methods: dict[str, Sampler],
    seeds: list[int],
) -> None:
    """Append the missing rows; a row says what its pictures depend on, the number of threads among it."""
    done = {(row["setting"], row["dtype"], row["method"], row["prompt"], row["seed"]) for row in read_rows(path)}
    setting, dtype = made_with["setting"], made_with["dtype"]
    for seed in seeds:
        for prompt, scale in scales.items():
            for method, sampler in methods.items():
                if (setting, dtype, method, prompt, seed) in done:
                    continue
                (soup,) = run(sampler, [prompt], [seed])
                row = {**made_with, "method": method, "prompt": prompt, "seed": seed, **measure(soup, scale)}
                append_rows(path, [row])
                line = f"{setting}, {method}, {prompt}, {seed}: {row['hypervolume']:.3f} at {row['queries']:,} queries"
                Console().print(line, markup=False, highlight=False)


def read_rows(path: Path) -> list[dict]:
    """The rows of a file; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append_rows(path: Path, rows: Iterable[dict]) -> None:
    """Add rows to a file, all of them or none."""
    with path.open("a") as file:  # one short write, so that two runs don't tear each other's lines
        file.write("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    auto_cli(main)
