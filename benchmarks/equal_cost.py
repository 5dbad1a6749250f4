"""Sizes of methods that spend a budget, and their soups.

A budget is a number of network evaluations, or of queries, for a soup of six preferences. The backward pass of a
network evaluation counts as two more. Each method gets the size (number of candidates, of particles, of pictures …)
that spends it: by rehearsal, and by pilot soups of another prompt where the cost varies, since what preferences share
depends on the latents. Units and costs of pilot soups are kept in a file, so that a later sitting, perhaps on another
machine, comes to the same sizes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.contenders import Contender, common
from benchmarks.soup_rows import UNSTEERED, known_of, measured, predict
from rewards import CLIPScore, Colorfulness, JPEGCompressibility, Reward, Sharpness
from srsoup_lightning import Loading, Preferences, SRSoupModule
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.pareto.diversity import Embedding, thumbnails
from srsoup_lightning.problem import Problem
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.files import write_atomically
from srsoup_lightning.samplers import BaseModel, Sampler
from srsoup_lightning.samplers.rehearsal import count

Cost = Literal["nfe", "queries"]
COSTS: tuple[Cost, ...] = ("nfe", "queries")
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
PILOT, PILOTS = "a fox", 3  # prompt of the pilot soups, and how many of them a size may take
SHARED = 0.75  # first guess of the cost of preferences that share, in shares of their cost apart
SLACK = 0.1  # share of a budget that a pilot soup may miss


@dataclass(frozen=True)
class Entry:
    """A method with its settings and size."""

    name: str
    sampler: Sampler

    @property
    def folder(self) -> str:
        """Name of its run directory. A method with another setting, such as a better one of the search, has another."""
        setting = blake2b(repr(self.sampler).encode(), digest_size=4).hexdigest()
        return f"{self.name.replace(' ', '_')}-{setting}"


class Bench:
    """Methods and soups of one setting.

    Args:
        setting: One of REWARDS.
        root: Folder of the run directories.
        dtype: Precision of the networks.
        kept: File of the units and of the costs of pilot soups.
    """

    def __init__(self, setting: str, root: Path, dtype: str, kept: Path) -> None:
        self.setting, self.root, self.loading = setting, root / setting.replace(" ", "_"), Loading(dtype=dtype)
        self.preferences = Preferences.lattice(REWARDS[setting], DIVISIONS[setting], [HELD_OUT[setting]])
        self.kept = kept
        self._module: SRSoupModule | None = None

    @property
    def differentiable(self) -> bool:
        """Whether all rewards have gradients."""
        return all(MAKERS[name]().is_differentiable for name in REWARDS[self.setting])

    def module(self, sampler: Sampler) -> SRSoupModule:
        """A module with the setting's rewards and preferences."""
        rewards = {name: MAKERS[name]() for name in self.preferences.rewards}
        return SRSoupModule("tiny-animals", rewards, sampler, self.preferences, loading=self.loading)

    def predict(self, entry: Entry, prompts: Sequence[str], seeds: Sequence[int], folder: str = "") -> Path:
        """Make the soups that are missing, and return the run directory."""
        return predict(self.root / folder / entry.folder, self.module(entry.sampler), prompts, seeds)

    def base(self, prompts: Sequence[str]) -> Path:
        """Unsteered pictures of each prompt."""
        return self.predict(Entry("base", BaseModel(**common())), prompts, UNSTEERED)

    def measure(
        self, entry: Entry, prompts: Sequence[str], seed: int, scale: Sequence[str], embedding: Embedding = thumbnails
    ) -> list[dict[str, Any]]:
        """Make the soups of a method and return their rows, see :func:`~benchmarks.soup_rows.measured`.

        Args:
            entry: The method.
            prompts: Prompts, at least one.
            seed: Seed of their soups.
            scale: Prompts that unsteered pictures are made of, with `prompts` among them.
            embedding: Images to vectors, whose distances diversity measures.
        """
        root = self.predict(entry, prompts, [seed], folder=f"seed_{seed}")
        return measured(self.base(scale), root, prompts, seed, embedding)

    def units(self, prompts: Sequence[str]) -> dict[str, list[float]]:
        """Mean and standard deviation of the rewards of unsteered pictures, each averaged over prompts."""
        return self._remembered("units", ", ".join(prompts), lambda: self._units(prompts))

    def _units(self, prompts: Sequence[str]) -> dict[str, list[float]]:
        rows, units = list(RunDirectory(self.base(prompts)).image_rows()), {}
        for name in REWARDS[self.setting]:
            scores = [torch.tensor([row.rewards[name] for row in rows if row.prompt == prompt]) for prompt in prompts]
            moments = torch.tensor([[float(each.mean()), float(each.std())] for each in scores]).mean(0)
            units[name] = [float(f"{number:.3g}") for number in moments.tolist()]
        return units

    def planned(self, sampler: Sampler, cost: Cost) -> float:
        """Cost of a soup; where it varies, a guess: a part of what the preferences would cost apart."""
        highest = amount(self.at_most(sampler), cost)
        return SHARED * highest if sampler.cost_varies else highest

    def at_most(self, sampler: Sampler) -> Ledger:
        """The plan of a soup."""
        return count(sampler, self.preferences, model=self.problem().denoiser)

    def spent(self, sampler: Sampler, cost: Cost) -> int:
        """Cost of a pilot soup."""
        return self._remembered("pilots", repr(sampler), lambda: amounts(self.pilot(sampler)))[cost]

    def pilot(self, sampler: Sampler) -> Ledger:
        """Make a pilot soup, and return what it cost."""
        with torch.inference_mode():
            return sampler.run(self.problem(), self.preferences, PILOT, 0).ledger

    def _remembered(self, kind: str, name: str, make: Callable[[], Any]) -> Any:  # noqa: ANN401 - what make makes
        found = known_of(self.kept).get(self.setting, {}).get(kind, {})
        if name in found:
            return found[name]
        made, known = make(), known_of(self.kept)  # read again, since another process may have written in the meantime
        known.setdefault(self.setting, {}).setdefault(kind, {})[name] = made
        write_atomically(self.kept, (json.dumps(known, indent=1) + "\n").encode())
        return made

    def problem(self) -> Problem:
        """The problem of the pilot soups, with a model that is loaded once."""
        if self._module is None:
            self._module = self.module(BaseModel(**common()))
            self._module.configure_model()
            with torch.inference_mode():
                self._module.choose_batch()  # as a Trainer's run does
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
        best = closest(tried)
        return None if best is None else contender.make(best, **options)


def closest(shares: Mapping[int, float]) -> int | None:
    """The size whose share of the budget is closest to one, of those that miss it by little or stay below it."""
    fitting = {size: share for size, share in shares.items() if share <= 1 + 2 * SLACK}
    return min(fitting, key=lambda size: abs(fitting[size] - 1), default=None)


def amounts(ledger: Ledger) -> dict[str, int]:
    """Both costs of a soup, as budgets count them."""
    return {cost: amount(ledger, cost) for cost in COSTS}


def amount(ledger: Ledger, cost: Cost) -> int:
    """A cost of a soup, as its budget counts it."""
    return ledger.nfe + BACKWARD * ledger.gradients if cost == "nfe" else ledger.total_queries
