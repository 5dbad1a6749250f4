"""Values of charts by tag: costs of every soup, and curves over denoising steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from math import isfinite, isnan
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.preferences import Preferences, point_name
from srsoup_lightning.report.run_tables import costs
from srsoup_lightning.runs.files import append_rows, is_torn, read_rows, to_lines, write_atomically
from srsoup_lightning.runs.rows import Key
from srsoup_lightning.samplers.result import Measures, Moment, Observation

SO_FAR, OF_SOUP, CLOSENESS = "cost so far", "cost of the soup", "closeness"
MEAN, LOWEST, HIGHEST = (f"{CLOSENESS}/{which}" for which in ("mean of all pairs", "lowest", "highest"))
OF_ALL = "denoising"  # group of the means over trajectories or preferences
RESAMPLED = f"{OF_ALL}/trajectories resampled"  # share of those that go on from another one
Curves = dict[str, dict[int, float]]  # tag -> step -> value


def cost_values(group: str, ledger: Ledger) -> dict[str, float]:
    """Return costs by tag."""
    return {f"{group}/{name}": count for name, count in costs(ledger).items()}


class PreferenceNames:
    """Names of trajectories: those of their preferences, or their weights where the run has no such preference."""

    def __init__(self, preferences: Preferences) -> None:
        preferences = preferences.without_held_out()
        self.rewards = preferences.rewards
        self._names = dict(zip(map(_rounded, preferences.weights.tolist()), preferences.names, strict=True))

    def __getitem__(self, weights: Sequence[float]) -> str:
        return self._names.get(_rounded(weights)) or point_name(self.rewards, weights)


def _rounded(weights: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(weight, 6) for weight in weights)


def step_values(moment: Moment, names: PreferenceNames) -> dict[str, float]:
    """Values of a denoising step by tag: observations of the search or measures of the selection, and cost so far."""
    values = cost_values(OF_SOUP, moment.ledger)
    del values[f"{OF_SOUP}/seconds"]  # the ledger counts them when the soup is done
    if isinstance(moment.observation, Measures):
        return values | _measured(moment.observation, names)
    return values if moment.observation is None else values | _observed(moment.observation, names)


def _measured(measures: Measures, names: PreferenceNames) -> dict[str, float]:
    found = {
        f"{measure}/{names[weights]}": value
        for measure, values in measures.values.items()
        for weights, value in zip(measures.preferences.tolist(), values.tolist(), strict=True)
    }
    found |= {f"{OF_ALL}/{measure}": float(values.double().mean()) for measure, values in measures.values.items()}
    if measures.units is not None:
        for kind, numbers in measures.units._asdict().items():
            found |= {f"units/{kind} of {name}": n for name, n in zip(names.rewards, numbers.tolist(), strict=True)}
    return {tag: value for tag, value in found.items() if isfinite(value)}


def _observed(observation: Observation, names: PreferenceNames) -> dict[str, float]:
    asked: dict[str, dict[str, float]] = {reward: {} for reward in names.rewards}
    for weights, scores in zip(observation.preferences.tolist(), observation.rewards.tolist(), strict=True):
        for reward, weight, score in zip(names.rewards, weights, scores, strict=True):
            if weight > 0 and not isnan(score):
                asked[reward][names[weights]] = score
    values = {f"{of_candidates(reward)}/{name}": score for reward, by in asked.items() for name, score in by.items()}
    values |= {f"{OF_ALL}/{of_candidates(reward)}": fmean(by.values()) for reward, by in asked.items() if by}
    count = len(observation.closeness)
    if count > 1:
        pairs = observation.closeness.cpu()[*torch.triu_indices(count, count, 1)]
        values |= {MEAN: float(pairs.mean()), LOWEST: float(pairs.min()), HIGHEST: float(pairs.max())}
    if observation.ancestors is not None:
        values[RESAMPLED] = fmean(index != ancestor for index, ancestor in enumerate(observation.ancestors.tolist()))
    return values


def of_candidates(reward: str) -> str:
    """Return the group of the mean rewards of the candidates of each trajectory."""
    return f"{reward} of candidates"


class MeanCurves:
    """Curves over denoising steps, averaged over the soups that have a value at the step.

    Args:
        table: Table of the curves of each soup, from which a run that goes on takes them. None keeps none.
        finished: Soups of the table that count.
    """

    def __init__(self, table: Path | None, finished: Collection[Key]) -> None:
        self.table = table
        self._sums: dict[tuple[str, int], float] = defaultdict(float)
        self._counts: dict[tuple[str, int], int] = defaultdict(int)
        if table is not None:
            if is_torn(table):  # by a crash
                write_atomically(table, to_lines(row for _, row in read_rows(table)))
            last = {_key(row): number for number, (_, row) in enumerate(read_rows(table))}  # of a soup made twice
            for number, (_, row) in enumerate(read_rows(table)):
                if last[_key(row)] == number and _key(row) in finished:
                    self._add({tag: {int(step): at[step] for step in at} for tag, at in row["curves"].items()})

    def add(self, key: Key, curves: Curves) -> None:
        """Add the curves of a finished soup."""
        self._add(curves)
        if self.table is not None:
            append_rows(self.table, [{"prompt": key[0], "seed": key[1], "curves": _rounded_curves(curves)}])

    def curves(self) -> Curves:
        """Return the means."""
        found: Curves = defaultdict(dict)
        for (tag, step), total in sorted(self._sums.items()):
            found[tag][step] = total / self._counts[tag, step]
        return dict(found)

    def _add(self, curves: Curves) -> None:
        for tag, at in curves.items():
            for step, value in at.items():
                self._sums[tag, step] += value
                self._counts[tag, step] += 1


def _key(row: Mapping[str, Any]) -> Key:
    return str(row["prompt"]), int(row["seed"])


def _rounded_curves(curves: Curves) -> Curves:
    """Return the curves with as many digits as single precision has."""
    return {tag: {step: float(f"{value:.9g}") for step, value in at.items()} for tag, at in curves.items()}
