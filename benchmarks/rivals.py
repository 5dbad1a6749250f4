"""Every method at equal cost: ``python -m benchmarks.rivals``, and ``benchmarks.rivals_report`` for the tables.

A budget is a number of network evaluations, or of queries, for a soup of six preferences. Each method gets the largest
size (number of candidates, of particles, of pictures …) whose rehearsal stays within it. A method that is too dear for
a budget has no row there. What preferences share depends on the latents. So rehearsals are averaged over a few
stand-ins, and the rows tell what was really spent. Runs are run directories: one that was stopped goes on, and budgets
that come to the same size share one. :func:`srsoup_lightning.report.compare.compared` measures them in units of the
unsteered pictures of each prompt.

Each method runs with its authors' settings, and with those that ``--search true`` found best among a few on other
prompts. The units of rewards are constants of the model: they were measured there too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
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
from srsoup_lightning.diffusion.denoiser import Denoiser
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
DIVISIONS = {"two rewards": 5, "three rewards": 2}  # six preferences each
REWARDS = {"two rewards": ("jpeg", "clip"), "three rewards": ("jpeg", "clip", "colour")}
HELD_OUT = {"two rewards": "colour", "three rewards": "sharpness"}  # scored, and steered by no method
MAKERS: dict[str, Callable[[], Reward]] = {
    "jpeg": JPEGCompressibility,
    "clip": lambda: CLIPScore("tiny-clip"),
    "colour": Colorfulness,
    "sharpness": Sharpness,
}
BUDGETS: dict[Cost, tuple[int, ...]] = {"nfe": (1_700, 3_400, 6_800), "queries": (300, 600, 1_200)}
STAND_INS = 4  # rehearsals of a method that are averaged
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
        points = Preferences.lattice(REWARDS[setting], DIVISIONS[setting]).weights.tolist()
        self.preferences = Preferences([*REWARDS[setting], HELD_OUT[setting]], [[*point, 0.0] for point in points])
        self._denoiser: Denoiser | None = None
        self._costs: dict[str, tuple[float, float]] = {}

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
        return self.predict(Entry("base", BaseModel(**common())), prompts, list(range(1_000, 1_000 + UNSTEERED)))

    def cost(self, sampler: Sampler, cost: Cost) -> float:
        """Expected cost of a soup."""
        if self._denoiser is None:
            module = self.module(BaseModel(**common()))
            module.configure_model()
            self._denoiser = module.problem("a cat").denoiser
        if (known := repr(sampler)) not in self._costs:
            ledgers = [count(sampler, self.preferences, model=self._denoiser, seed=seed) for seed in range(STAND_INS)]
            found = fmean(ledger.nfe for ledger in ledgers), fmean(ledger.total_queries for ledger in ledgers)
            self._costs[known] = found
        return self._costs[known][0 if cost == "nfe" else 1]

    def fitted(self, contender: Contender, options: Mapping[str, object], cost: Cost, budget: int) -> Sampler | None:
        """The method with the largest size within a budget. None where its smallest size is beyond it."""
        within, beyond = contender.least, contender.least

        def affordable(size: int) -> bool:
            return self.cost(contender.make(size, **options), cost) <= budget

        if not affordable(within):
            return None
        while affordable(beyond := 2 * beyond):
            within = beyond
            if beyond > budget:  # its cost does not grow with its size
                break
        while beyond - within > 1:
            middle = (within + beyond) // 2
            within, beyond = (middle, beyond) if affordable(middle) else (within, middle)
        return contender.make(within, **options)

    def entries(self, cost: Cost, budget: int, names: list[str], chosen: Mapping[str, dict]) -> Iterator[Entry]:
        """All methods at a budget, with their authors' settings and with the chosen ones where they differ."""
        units = chosen["units"]
        for name in names:
            contender = CONTENDERS[name]
            given = {"units": {key: units[key] for key in REWARDS[self.setting]}} if contender.scalarised else {}
            variants = {"": {}, ", tuned": chosen["options"].get(name, {})}
            for variant, options in variants.items():
                if variant and not options:
                    continue
                sampler = self.fitted(contender, {**given, **options}, cost, budget)
                if sampler is not None:
                    yield Entry(f"{name}{variant}, {contender.size_of(sampler)}", sampler)


def measure(bench: Bench, entries: list[Entry], prompts: list[str], seeds: list[int]) -> Comparison:
    """Run the entries and compare them; the first run of the comparison is the unsteered one."""
    base = bench.base(prompts)
    roots = []
    for entry in entries:
        roots.append(f"{entry.name}={bench.predict(entry, prompts, seeds)}")
        Console().print(f"{bench.setting}: {entry.name}", markup=False, highlight=False)
    return compared([f"base={base}", *roots], baseline="base", embedding=ImageNetFeatures())


def main(
    out: Path = RESULTS,
    workdir: Path = Path("build/rivals"),
    settings: list[str] = list(REWARDS),  # noqa: B006 - jsonargparse shows the default
    costs: list[Cost] = ["nfe", "queries"],  # noqa: B006
    budgets: list[int] = [0, 1, 2],  # noqa: B006
    methods: list[str] = list(CONTENDERS),  # noqa: B006
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    dtype: str = "bfloat16",
    search: bool = False,
) -> None:
    """Make the runs that are missing, and write the rows of each budget.

    Args:
        out: Folder of the rows.
        workdir: Folder of the run directories.
        settings: "two rewards", "three rewards".
        costs: Which kinds of budgets.
        budgets: Which of the three budgets of each kind, by index.
        methods: Which methods, by name.
        seeds: Seeds of every prompt.
        dtype: Precision of the networks.
        search: Search settings on other prompts instead, and write ``chosen.json``.
    """
    if search:
        search_settings(out / "chosen.json", workdir / "search", methods, dtype)
        return
    chosen = json.loads((out / "chosen.json").read_text())
    for setting in settings:
        bench = Bench(setting, workdir, dtype)
        for cost in costs:
            for budget in (BUDGETS[cost][index] for index in budgets):
                entries = list(bench.entries(cost, budget, methods, chosen))
                comparison = measure(bench, entries, list(PROMPTS), seeds)
                about = {"setting": setting, "cost": cost, "budget": budget, "seeds": seeds, "dtype": dtype}
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
    bench, prompts, budget = Bench("two rewards", workdir, dtype), list(SEARCH_PROMPTS), BUDGETS["nfe"][0]
    known = json.loads(path.read_text()) if path.exists() else {"options": {}, "tried": {}}
    known["units"] = units_of(Bench("three rewards", workdir, dtype), prompts)
    units = {key: known["units"][key] for key in REWARDS["two rewards"]}
    for name in methods:
        contender = CONTENDERS[name]
        given = {"units": units} if contender.scalarised else {}
        entries, tried = [], []
        for options in ({}, *contender.search):
            if (sampler := bench.fitted(contender, given | options, "nfe", budget)) is not None:
                entries.append(Entry(f"{name}, {json.dumps(options)}".replace("/", " per "), sampler))
                tried.append(options)
        if len(entries) < 2:
            continue
        rows = measure(bench, entries, prompts, [0]).rows()
        found = [row["mean"] for row in rows if row["measure"] == "hypervolume" and row["run"] != "base"]
        best = max(range(len(found)), key=found.__getitem__)
        known["options"][name] = tried[best]
        known["tried"][name] = [
            {"options": each, "hypervolume": value} for each, value in zip(tried, found, strict=True)
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(known, indent=1) + "\n")


def units_of(bench: Bench, prompts: list[str]) -> dict[str, list[float]]:
    """Mean and standard deviation of the rewards of unsteered pictures, each averaged over prompts."""
    rows = list(RunDirectory(bench.base(prompts)).image_rows())
    units = {}
    for name in REWARDS[bench.setting]:
        scores = [torch.tensor([row.rewards[name] for row in rows if row.prompt == prompt]) for prompt in prompts]
        moments = torch.tensor([[float(each.mean()), float(each.std())] for each in scores]).mean(0)
        units[name] = [float(f"{number:.3g}") for number in moments.tolist()]
    return units


if __name__ == "__main__":
    auto_cli(main)
