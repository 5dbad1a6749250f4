"""Every method at equal cost: ``python -m benchmarks.rivals``, and ``benchmarks.rivals_report`` for the tables.

A budget is a number of network evaluations, or of queries, for a soup of six preferences. The backward pass of a
network evaluation counts as two more. Each method gets the size (number of candidates, of particles, of pictures …)
that spends it: by rehearsal, and by pilot soups of another prompt where the cost varies, since what preferences share
depends on the latents. The rows tell what was really spent. A method that is too dear for a budget has no row there.
Runs are run directories: one that was stopped goes on, and budgets that come to the same size share one.
:func:`srsoup_lightning.report.compare.compared` measures them in units of the unsteered pictures of each prompt.

Each method runs with its authors' settings, and with those that ``--search true`` found best among a few on other
prompts. Methods of one number have the units of the unsteered pictures, averaged over the prompts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lightning as L
import torch
from jsonargparse import auto_cli
from rich.console import Console

from benchmarks.contenders import CONTENDERS, Contender, common
from benchmarks.machine import describe
from rewards import CLIPScore, Colorfulness, JPEGCompressibility, Reward, Sharpness
from rewards.features import ImageNetFeatures
from srsoup_lightning import Loading, Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.callbacks import SampleWriter
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.pareto.diversity import Embedding, thumbnails
from srsoup_lightning.problem import Problem
from srsoup_lightning.report.compare import compared
from srsoup_lightning.report.comparison import Comparison
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.samplers import BaseModel, Sampler
from srsoup_lightning.samplers.rehearsal import count

Cost = Literal["nfe", "queries"]
PROMPTS = (
    *("a hippopotamus", "a snail", "a leopard", "a crocodile", "a lobster", "an octopus"),  # the paper's animals
    *("a zebra", "a butterfly"),
)
SEARCH_PROMPTS = ("a fox", "a turtle", "a cow")
DIVISIONS = {"two rewards": 5, "three rewards": 2, "differentiable rewards": 5}  # six preferences each
REWARDS = {
    "two rewards": ("jpeg", "clip"),
    "three rewards": ("jpeg", "clip", "colour"),
    "differentiable rewards": ("colour", "clip"),  # the setting of methods that need gradients
}
HELD_OUT = {  # scored, and steered by no method
    "two rewards": "colour",
    "three rewards": "sharpness",
    "differentiable rewards": "sharpness",
}
BACKWARD = 2 * 2  # network evaluations that the gradient of a guided prediction counts
MAKERS: dict[str, Callable[[], Reward]] = {
    "jpeg": JPEGCompressibility,
    "clip": lambda: CLIPScore("tiny-clip"),
    "colour": Colorfulness,
    "sharpness": Sharpness,
}
BUDGETS: dict[Cost, tuple[int, ...]] = {"nfe": (1_700, 3_400, 6_800), "queries": (400, 800, 1_600)}
PILOT, PILOTS = "a fox", 3  # prompt of the pilot soups, and how many of them a size may take
SHARED = 0.75  # first guess of the cost of preferences that share, in shares of their cost apart
SLACK = 0.1  # share of a budget that a pilot soup may miss
UNSTEERED = 32  # pictures of each prompt that the scale comes from
RESULTS = Path("benchmarks/results/rivals")


@dataclass(frozen=True)
class Entry:
    """A method with its settings and size."""

    name: str
    sampler: Sampler

    @property
    def folder(self) -> str:
        """Name of its run directory."""
        return self.name.replace(" ", "_")


class Bench:
    """Runs of one setting.

    Args:
        setting: "two rewards" or "three rewards".
        root: Folder of the run directories.
        dtype: Precision of the networks.
    """

    def __init__(self, setting: str, root: Path, dtype: str) -> None:
        self.setting, self.root, self.loading = setting, root / setting.replace(" ", "_"), Loading(dtype=dtype)
        self.preferences = Preferences.lattice(REWARDS[setting], DIVISIONS[setting], [HELD_OUT[setting]])
        self._module: SRSoupModule | None = None
        self._base: dict[tuple[str, ...], Path] = {}

    def module(self, sampler: Sampler) -> SRSoupModule:
        """A module with the setting's rewards and preferences."""
        rewards = {name: MAKERS[name]() for name in self.preferences.rewards}
        return SRSoupModule("tiny-animals", rewards, sampler, self.preferences, loading=self.loading)

    def predict(self, entry: Entry, prompts: list[str], seeds: list[int]) -> Path:
        """Make the soups that are missing, and return the run directory."""
        root = self.root / entry.folder
        quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = L.Trainer(callbacks=[SampleWriter(str(root))], logger=False, **quiet)
        trainer.predict(self.module(entry.sampler), PromptDataModule(prompts, seeds), return_predictions=False)
        return root

    def base(self, prompts: list[str]) -> Path:
        """Unsteered pictures of each prompt."""
        if (known := tuple(prompts)) not in self._base:
            seeds = list(range(1_000, 1_000 + UNSTEERED))
            self._base[known] = self.predict(Entry("base", BaseModel(**common())), prompts, seeds)
        return self._base[known]

    def units(self, prompts: list[str]) -> dict[str, list[float]]:
        """Mean and standard deviation of the rewards of unsteered pictures, each averaged over prompts."""
        rows, units = list(RunDirectory(self.base(prompts)).image_rows()), {}
        for name in REWARDS[self.setting]:
            scores = [torch.tensor([row.rewards[name] for row in rows if row.prompt == prompt]) for prompt in prompts]
            moments = torch.tensor([[float(each.mean()), float(each.std())] for each in scores]).mean(0)
            units[name] = [float(f"{number:.3g}") for number in moments.tolist()]
        return units

    def planned(self, sampler: Sampler, cost: Cost) -> float:
        """Cost of a soup; where it varies, a guess: a part of what the preferences would cost apart."""
        highest = _amount(self.at_most(sampler), cost)
        return SHARED * highest if sampler.cost_varies else highest

    def at_most(self, sampler: Sampler) -> Ledger:
        """The plan of a soup."""
        return count(sampler, self.preferences, model=self.problem().denoiser)

    def spent(self, sampler: Sampler, cost: Cost) -> int:
        """Cost of a pilot soup, which is kept."""
        path = self.root / "pilots.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        if (name := repr(sampler)) not in known:
            with torch.inference_mode():
                soup = sampler.run(self.problem(), self.preferences, PILOT, 0)
            known[name] = {each: _amount(soup.ledger, each) for each in BUDGETS}
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(known, indent=1))
        return known[name][cost]

    def problem(self) -> Problem:
        """The problem of the pilot soups, with a model that is loaded once."""
        if self._module is None:
            self._module = self.module(BaseModel(**common()))
            self._module.configure_model()
        return self._module.problem(PILOT)

    def fitted(self, contender: Contender, options: Mapping[str, object], cost: Cost, budget: int) -> Sampler | None:
        """The method with the size that spends a budget. None where its smallest size is beyond it."""
        size = contender.least

        def affordable(size: int) -> bool:
            return self.planned(contender.make(size, **options), cost) <= budget

        if not affordable(size):
            return None
        step = size
        while step:  # doubled up to the budget, then halved
            within = affordable(size + step)
            size, step = (size + step, 2 * step) if within and step >= size else (size + within * step, step // 2)
        if not (sampler := contender.make(size, **options)).cost_varies:
            return sampler
        tried: dict[int, float] = {}
        while len(tried) < PILOTS and size not in tried:
            tried[size] = share = self.spent(contender.make(size, **options), cost) / budget
            if abs(share - 1) <= SLACK:
                break
            size = max(round(size / share), contender.least)
        best = min(tried, key=lambda size: abs(tried[size] - 1))
        return contender.make(best, **options) if tried[best] <= 1 + 2 * SLACK else None

    def entries(
        self, cost: Cost, budget: int, names: list[str], chosen: Mapping[str, dict], prompts: list[str]
    ) -> Iterator[Entry]:
        """All methods at a budget, with their authors' settings and with the chosen ones where they differ.

        A method that needs gradients is left out where a reward has none.
        """
        differentiable = [name for name in REWARDS[self.setting] if MAKERS[name]().is_differentiable]
        for name in names:
            contender = CONTENDERS[name]
            sampler = contender.make(contender.least)
            if sampler.takes_gradients and len(differentiable) < len(REWARDS[self.setting]):
                continue
            given = {"units": self.units(prompts)} if contender.takes_units else {}
            variants = {"": {}, ", tuned": chosen.get(name, {}).get("options", {})}
            for variant, options in variants.items():
                if variant and not options:
                    continue
                sampler = self.fitted(contender, {**given, **options}, cost, budget)
                if sampler is not None:
                    yield Entry(f"{name}{variant}, {contender.size_of(sampler)}", sampler)


def _amount(ledger: Ledger, cost: Cost) -> int:
    return ledger.nfe + BACKWARD * ledger.gradients if cost == "nfe" else ledger.total_queries


def measure(
    bench: Bench, entries: list[Entry], prompts: list[str], seeds: list[int], embedding: Embedding = thumbnails
) -> Comparison:
    """Run the entries and compare them; the first run of the comparison is the unsteered one."""
    base = bench.base(prompts)
    roots = []
    for entry in entries:
        roots.append(f"{entry.name}={bench.predict(entry, prompts, seeds)}")
        Console().print(f"{bench.setting}: {entry.name}", markup=False, highlight=False)
    return compared([f"base={base}", *roots], baseline="base", embedding=embedding)


def main(
    out: Path = RESULTS,
    workdir: Path = Path("build/rivals"),
    settings: list[str] = list(REWARDS),  # noqa: B006 - jsonargparse shows the default
    costs: list[Cost] = ["nfe", "queries"],  # noqa: B006
    budgets: list[int] = [0, 1, 2],  # noqa: B006
    methods: list[str] = list(CONTENDERS),  # noqa: B006
    prompts: list[str] = list(PROMPTS),  # noqa: B006
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    dtype: str = "bfloat16",
    search: bool = False,
) -> None:
    """Make the runs that are missing, and write the rows of each budget.

    Args:
        out: Folder of the rows.
        workdir: Folder of the run directories.
        settings: "two rewards", "three rewards", "differentiable rewards".
        costs: Which kinds of budgets.
        budgets: Which of the three budgets of each kind, by index.
        methods: Which methods, by name.
        prompts: Prompts, whose unsteered pictures give the units too.
        seeds: Seeds of every prompt.
        dtype: Precision of the networks.
        search: Search settings on other prompts instead, and write ``chosen.json``.
    """
    if search:
        search_settings(out / "chosen.json", workdir / "search", methods, dtype)
        return
    path = out / "chosen.json"
    chosen = json.loads(path.read_text()) if path.exists() else {}
    for setting in settings:
        bench = Bench(setting, workdir, dtype)
        for cost in costs:
            for budget in (BUDGETS[cost][index] for index in budgets):
                entries = list(bench.entries(cost, budget, methods, chosen, prompts))
                comparison = measure(bench, entries, prompts, seeds, ImageNetFeatures())
                about = {"setting": setting, "cost": cost, "budget": budget, "seeds": seeds, "dtype": dtype}
                about["nfe_at_most"] = {entry.name: bench.at_most(entry.sampler).nfe for entry in entries}
                write_rows(out / f"{setting.replace(' ', '_')}-{cost}-{budget}.json", comparison, entries, about)


def write_rows(path: Path, comparison: Comparison, entries: list[Entry], about: dict) -> None:
    """Write the measures with their intervals, the hypervolume of each prompt, and the options of each method."""
    options = {entry.name: repr(entry.sampler) for entry in entries}
    by_prompt = {
        run.name: {prompt: sum(values) / len(values) for prompt, values in run.values["hypervolume"].items()}
        for run in comparison.runs
    }
    content = {**about, "machine": describe(), "options": options, "hypervolume_by_prompt": by_prompt}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | {"rows": comparison.rows()}, indent=1) + "\n")


def search_settings(path: Path, workdir: Path, methods: list[str], dtype: str) -> None:
    """Choose the best of each method's few settings, by hypervolume at the smallest budget of evaluations."""
    prompts, budget = list(SEARCH_PROMPTS), BUDGETS["nfe"][0]
    benches = {setting: Bench(setting, workdir, dtype) for setting in ("two rewards", "differentiable rewards")}
    for name in methods:
        known = json.loads(path.read_text()) if path.exists() else {}
        contender = CONTENDERS[name]
        by_gradient = contender.make(contender.least).takes_gradients
        bench = benches["differentiable rewards" if by_gradient else "two rewards"]
        given = {"units": bench.units(prompts)} if contender.takes_units else {}
        entries, tried = [], []
        for options in ({}, *contender.search):
            if (sampler := bench.fitted(contender, given | options, "nfe", budget)) is not None:
                entries.append(Entry(f"{name}, {json.dumps(options)}", sampler))
                tried.append(options)
        if name in known or len(entries) < 2:
            continue
        rows = measure(bench, entries, prompts, [0]).rows()
        found = [row["mean"] for row in rows if row["measure"] == "hypervolume" and row["run"] != "base"]
        best = max(range(len(found)), key=found.__getitem__)
        table = [{"options": each, "hypervolume": value} for each, value in zip(tried, found, strict=True)]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**known, name: {"options": tried[best], "tried": table}}, indent=1) + "\n")


if __name__ == "__main__":
    auto_cli(main)
