"""How far the rivals push one reward alone: ``python -m benchmarks.one_reward``.

Each method has one or a few sizes, 20 steps and its default settings. So a user of a method's released code can see
whether this implementation reaches as far. Gains are in standard deviations of unsteered pictures of each prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli
from rich.console import Console

from benchmarks.contenders import common
from benchmarks.equal_cost import MAKERS, Bench
from benchmarks.rivals import PROMPTS
from benchmarks.soup_rows import Row, add_rows, circumstances, interval, measured, methods_of, number, predict
from srsoup_lightning import Loading, Preferences, SRSoupModule
from srsoup_lightning.runs.files import read_rows
from srsoup_lightning.runs.rows import grouped
from srsoup_lightning.samplers import DAS, SVDD, BestOfN, DSearch, FKSteering, Sampler, WeightedSum

RESULTS = Path("benchmarks/results/one_reward.jsonl")
ANIMALS = PROMPTS[:6]  # the paper's
REWARDS = ("jpeg", "clip")
KEPT = ("utility", "queries", "nfe", "seconds")


def methods(units: Mapping[str, Sequence[float]]) -> dict[str, Sampler]:
    """Methods by name, for the mean and standard deviation of each reward."""
    given = common(units=units)
    sampled = {f"BestOfN, pool {pool}": BestOfN(pool=pool, **given) for pool in (16, 64)}
    steered = {f"WeightedSum, candidates {count}": WeightedSum(candidates=count, **common()) for count in (8, 20)}
    decoded = {f"SVDD, children {count}": SVDD(children=count, **given) for count in (8, 20)}
    beams = {"DSearch, 4 beams": DSearch(beams=4, children=2, width=1.0, **given)}
    particles = {f"FKSteering, particles {count}": FKSteering(particles=count, **given) for count in (4, 8, 16)}
    by_gradient = {"DAS, particles 4": DAS(particles=4, inverse_temperature=200.0, **given)}
    return sampled | steered | decoded | beams | particles | by_gradient


def main(
    out: Path = RESULTS,
    workdir: Path = Path("build/one_reward"),
    seeds: list[int] = [0, 1, 2],  # noqa: B006 - jsonargparse shows the default
    dtype: str = "bfloat16",
) -> None:
    """Make the pictures that have no rows, and write the rows and their table.

    Args:
        out: File of the rows. The table is beside it.
        workdir: Folder of the run directories.
        seeds: Seeds of every prompt.
        dtype: Precision of the networks.
    """
    bench = Bench("two rewards", workdir, dtype, workdir / "sizes.json")
    base, names = bench.base(ANIMALS), bench.preferences.rewards

    def soups(name: str, sampler: Sampler, reward: str, seed: int, prompts: list[str]) -> list[dict[str, Any]]:
        rewards, preferences = {each: MAKERS[each]() for each in names}, Preferences(names, [{reward: 1.0}])
        module = SRSoupModule("tiny-animals", rewards, sampler, preferences, loading=Loading(dtype=dtype))
        root = workdir / f"{reward}_{seed}" / name.replace(", ", "_").replace(" ", "_")
        return measured(base, predict(root, module, prompts, [seed]), prompts, seed)

    for name, sampler in methods(bench.units(ANIMALS)).items():
        for reward in REWARDS:
            if sampler.takes_gradients and not MAKERS[reward]().is_differentiable:
                continue
            about = {"method": name, "reward": reward, "sampler": repr(sampler), "dtype": dtype}
            for seed in seeds:
                make = partial(soups, name, sampler, reward, seed)
                if add_rows(out, about, ANIMALS, seed, KEPT, make):
                    Console().print(f"{reward}, seed {seed}: {name}", markup=False, highlight=False)
    rows = [row for _, row in read_rows(out)]
    sections = [section(reward, theirs) for reward, theirs in grouped(rows, _reward).items()]
    out.with_suffix(".md").write_text("# One reward alone\n\n" + "\n\n".join(sections) + "\n")


def _reward(row: Row) -> str:
    return str(row["reward"])


def section(reward: str, rows: Sequence[Row]) -> str:
    """A table of the gains of a reward, and of the costs of a picture."""
    lines = ["| method | gain | queries | network evaluations |", "|---" * 4 + "|"]
    for name, values in methods_of(rows, KEPT, "utility").items():
        cells = [name, interval(values, "utility"), number(values, "queries"), number(values, "nfe")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([f"## {reward}", "", circumstances(rows), "", *lines])


if __name__ == "__main__":
    auto_cli(main)
