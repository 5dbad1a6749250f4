"""Every method at equal cost: ``python -m benchmarks.rivals``, and ``benchmarks.rivals_report`` for the tables.

:mod:`benchmarks.equal_cost` says how each method gets the size that spends a budget. A method that is too dear for a
budget has no row there. The rows tell what was really spent, one row for each soup, and the soups that have rows are
not made again: a benchmark that was stopped goes on, and a later sitting adds methods, budgets, prompts and seeds.

Each method runs with its authors' settings, and with those that :mod:`benchmarks.rivals_search` found best among a few
on other prompts. Methods of one number have the units of the unsteered pictures, averaged over the prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli
from rich.console import Console

from benchmarks.contenders import CONTENDERS, common
from benchmarks.equal_cost import REWARDS, Bench, Cost, Entry
from benchmarks.soup_rows import add_rows, imagenet_features, known_of
from srsoup_lightning.samplers import BaseModel

SEARCHED = 1_700  # network evaluations that settings were searched at
PROMPTS = (
    *("a hippopotamus", "a snail", "a leopard", "a crocodile", "a lobster", "an octopus"),  # the paper's animals
    *("a zebra", "a butterfly"),
)
RESULTS = Path("benchmarks/results/rivals")
UNSTEERED = "unsteered"
KEPT = (  # measures of a row
    *("hypervolume", "utility", "diversity", "mean_colour", "mean_sharpness"),
    *("queries", "nfe", "gradients", "seconds"),
)


def main(
    out: Path = RESULTS,
    workdir: Path = Path("build/rivals"),
    settings: list[str] = list(REWARDS),  # noqa: B006 - jsonargparse shows the default
    nfe: list[int] = [850, SEARCHED, 3_400],  # noqa: B006
    queries: list[int] = [200, 400, 800],  # noqa: B006
    methods: list[str] = list(CONTENDERS),  # noqa: B006
    prompts: list[str] = list(PROMPTS),  # noqa: B006
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    dtype: str = "bfloat16",
) -> None:
    """Make the soups that have no rows, and write the rows of each method.

    Args:
        out: Folder of the rows.
        workdir: Folder of the run directories.
        settings: "two rewards", "three rewards", "differentiable rewards".
        nfe: Budgets of network evaluations a soup.
        queries: Budgets of queries a soup, of all rewards together.
        methods: Which methods, by name.
        prompts: Prompts, whose unsteered pictures give the units too.
        seeds: Seeds of every prompt.
        dtype: Precision of the networks.
    """
    chosen = known_of(out / "chosen.json")
    for setting in settings:
        bench = Bench(setting, workdir, dtype, out / "sizes.json")
        budgets: list[tuple[Cost, int]] = [*(("nfe", size) for size in nfe), *(("queries", size) for size in queries)]
        for cost, budget in budgets:
            entries = list(entries_of(bench, cost, budget, methods, chosen, prompts))
            about = {"setting": setting, "cost": cost, "budget": budget, "dtype": dtype}
            for seed in seeds:
                for entry in entries:
                    add(out, bench, entry, about, prompts, seed)


def entries_of(
    bench: Bench, cost: Cost, budget: int, names: list[str], chosen: Mapping[str, dict], prompts: list[str]
) -> Iterator[Entry]:
    """Unsteered pictures, and all methods at a budget, with their authors' settings and with chosen ones that differ.

    A method that needs gradients is left out where a reward has none, and so is a second name of one sampler.
    """
    found: set[str] = set()
    yield Entry(UNSTEERED, BaseModel(**common()))
    for name in names:
        contender = CONTENDERS[name]
        if contender.make(contender.least).takes_gradients and not bench.differentiable:
            continue
        given = {"units": bench.units(prompts)} if contender.takes_units else {}
        variants = {"": {}, ", tuned": chosen.get(name, {}).get("options", {})}
        for variant, options in variants.items():
            if variant and not options:
                continue
            sampler = bench.fitted(contender, {**given, **options}, cost, budget)
            if sampler is not None and repr(sampler) not in found:
                found.add(repr(sampler))
                yield Entry(f"{name}{variant}, {contender.size_of(sampler)}", sampler)


def add(out: Path, bench: Bench, entry: Entry, about: Mapping[str, object], prompts: list[str], seed: int) -> None:
    """Make the soups of a method that have no rows, and add these."""
    path = out / f"{bench.setting.replace(' ', '_')}.jsonl"
    plan = bench.at_most(entry.sampler).nfe
    about = {**about, "method": entry.name, "sampler": repr(entry.sampler), "nfe_at_most": plan}

    def make(missing: list[str]) -> list[dict[str, Any]]:
        return bench.measure(entry, missing, seed, prompts, imagenet_features())

    if add_rows(path, about, prompts, seed, KEPT, make):
        Console().print(f"{bench.setting}, seed {seed}: {entry.name}", markup=False, highlight=False)


if __name__ == "__main__":
    auto_cli(main)
