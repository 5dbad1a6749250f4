"""Values of TensorBoard's charts by tag, of every denoising step and of every soup, and the layout of the charts."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, isnan
from typing import Any

import torch

from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.preferences import Preferences, point_name
from srsoup_lightning.samplers.result import Measures, Moment, Observation

SO_FAR, OF_SOUP, CLOSENESS = "cost so far", "cost of the soup", "closeness"
MEAN, LOWEST, HIGHEST = (f"{CLOSENESS}/{which}" for which in ("mean of all pairs", "lowest", "highest"))
Layout = dict[str, dict[str, list[Any]]]  # category -> chart -> kind and tags


def cost_values(group: str, ledger: Ledger) -> dict[str, float]:
    """Return costs by tag. Hits, failures and gradient evaluations are left out where there are none."""
    seldom = {
        **{f"{group}/hits of {name}": count for name, count in ledger.hits.items()},
        **{f"{group}/failures of {name}": count for name, count in ledger.failures.items()},
        f"{group}/gradient evaluations": ledger.gradients,
    }
    return {
        **{f"{group}/queries of {name}": count for name, count in ledger.queries.items()},
        **{tag: count for tag, count in seldom.items() if count},
        f"{group}/network evaluations": ledger.nfe,
        f"{group}/decodes": ledger.decodes,
        f"{group}/seconds": ledger.seconds,
    }


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
    if measures.units is not None:
        for kind, numbers in measures.units._asdict().items():
            found |= {f"units/{kind} of {name}": n for name, n in zip(names.rewards, numbers.tolist(), strict=True)}
    return {tag: value for tag, value in found.items() if isfinite(value)}


def _observed(observation: Observation, names: PreferenceNames) -> dict[str, float]:
    values = {
        f"{_group(reward)}/{names[weights]}": score
        for weights, scores in zip(observation.preferences.tolist(), observation.rewards.tolist(), strict=True)
        for reward, weight, score in zip(names.rewards, weights, scores, strict=True)
        if weight > 0 and not isnan(score)
    }
    count = len(observation.closeness)
    if count > 1:
        pairs = observation.closeness.cpu()[*torch.triu_indices(count, count, 1)]
        values |= {MEAN: float(pairs.mean()), LOWEST: float(pairs.min()), HIGHEST: float(pairs.max())}
    return values


def _group(reward: str) -> str:
    return f"{reward} of candidates"


class MeanCurves:
    """Curves over denoising steps, averaged over the soups that have a value at the step."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, int], float] = defaultdict(float)
        self._counts: dict[tuple[str, int], int] = defaultdict(int)

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Add the values by tag that a soup has at a step."""
        for tag, value in values.items():
            self._sums[tag, step] += value
            self._counts[tag, step] += 1

    def __iter__(self) -> Iterator[tuple[str, float, int]]:
        """Tag, mean and step of each point."""
        return ((tag, total / self._counts[tag, step], step) for (tag, step), total in self._sums.items())


def layout(rewards: Sequence[str]) -> Layout:
    """Layout of the custom scalars: for each reward one chart of all trajectories, closeness as a band, and costs."""
    candidates = {_group(reward): ["Multiline", [f"{re.escape(_group(reward))}/"]] for reward in rewards}
    return {
        "by denoising step": {**candidates, CLOSENESS: ["Margin", [MEAN, LOWEST, HIGHEST]]},
        "by soups done": {
            "queries so far": ["Multiline", [f"{SO_FAR}/queries of "]],
            "network evaluations so far": ["Multiline", [f"{SO_FAR}/network evaluations"]],
        },
    }
