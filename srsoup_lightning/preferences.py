"""Preferences between rewards: points on the simplex."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

TOLERANCE = 1e-6
Item = TypeVar("Item")


class Preferences:
    """P points on the simplex over M rewards, in the order of the pictures.

    Args:
        rewards: Names of the rewards, in the order of the last axis of every result.
        weights: One point for each preference: either a list of M numbers in the order of `rewards`, or {reward:
            weight}, where a reward left out has weight 0. In a mapping {name: point}, the names become file names.
        normalise: Divide the weights of each point by their sum, so that 3 to 1 is a preference too.

    Attributes:
        weights: (P, M) float32 on the CPU. Each row sums to 1.
        names: Name of each preference.

    Raises:
        ValueError: There are no rewards or no points; a reward, point or name is repeated; or a point names an unknown
            reward, has the wrong length, has a negative or non-finite weight, or does not sum to 1 (within 1e-6); with
            `normalise`, it sums to 0.

    Example:
        >>> Preferences(["jpeg", "clip"], [[1, 0], {"jpeg": 0.25, "clip": 0.75}]).names
        ['jpeg1-clip0', 'jpeg0.25-clip0.75']
    """

    def __init__(
        self,
        rewards: Sequence[str],
        weights: Sequence[Sequence[float] | Mapping[str, float]] | Mapping[str, Sequence[float] | Mapping[str, float]],
        normalise: bool = False,
    ) -> None:
        self.rewards = tuple(rewards)
        if not self.rewards or len(set(self.rewards)) < len(self.rewards):
            raise ValueError(f"rewards are {list(self.rewards)}: name at least one, each once")
        points = list(weights.values()) if isinstance(weights, Mapping) else list(weights)
        if not points:
            raise ValueError("no preferences: give at least one point, e.g. Preferences.lattice(rewards, divisions=5)")
        rows = [self._row(point, normalise) for point in points]
        self.weights: Tensor = torch.tensor(rows, dtype=torch.float32)
        self.names = list(weights) if isinstance(weights, Mapping) else [point_name(self.rewards, row) for row in rows]
        _require_distinct(self.names, rows)

    def _row(self, point: Sequence[float] | Mapping[str, float], normalise: bool) -> list[float]:
        if isinstance(point, Mapping):
            unknown = sorted(set(point) - set(self.rewards))
            if unknown:
                raise ValueError(f"preference {dict(point)} names {unknown}: the rewards are {list(self.rewards)}")
            row = [float(point.get(reward, 0.0)) for reward in self.rewards]
        else:
            row = [float(weight) for weight in point]
        if len(row) != len(self.rewards):
            raise ValueError(f"preference {row} has {len(row)} weights: give one for each of {list(self.rewards)}")
        if not all(math.isfinite(weight) and weight >= 0 for weight in row):
            raise ValueError(f"preference {row} leaves the simplex: weights must be finite and at least 0")
        total = sum(row)
        if normalise:
            if total == 0:
                raise ValueError(f"preference {row} sums to 0: give a weight above 0")
            return [weight / total for weight in row]
        if abs(total - 1) > TOLERANCE:
            raise ValueError(f"preference {row} sums to {total:g}: weights must sum to 1, or give normalise: true")
        return row

    @property
    def weighted(self) -> list[str]:
        """Names of the rewards that have weight in any preference."""
        return [name for name, used in zip(self.rewards, (self.weights > 0).any(0).tolist(), strict=True) if used]

    def in_order(self, named: Mapping[str, Item]) -> dict[str, Item]:
        """Return what is named by the rewards, such as the rewards themselves, in their order.

        Raises:
            ValueError: The names are others.
        """
        if set(named) != set(self.rewards):
            raise ValueError(
                f"the rewards are {sorted(named)} and the preferences weigh {sorted(self.rewards)}: name the same on "
                "both sides"
            )
        return {name: named[name] for name in self.rewards}

    def without_held_out(self) -> Preferences:
        """Return the same preferences between the rewards that have weight in any of them."""
        kept = [self.rewards.index(name) for name in self.weighted]
        points = {name: row[kept].tolist() for name, row in zip(self.names, self.weights, strict=True)}
        return self if len(kept) == len(self.rewards) else Preferences(self.weighted, points)

    def apart(self) -> list[Preferences]:
        """Return each preference alone."""
        rows = zip(self.names, self.weights.tolist(), strict=True)
        return [Preferences(self.rewards, {name: row}) for name, row in rows]

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"Preferences({list(self.rewards)}, {dict(zip(self.names, self.weights.tolist(), strict=True))})"

    @classmethod
    def lattice(cls, rewards: Sequence[str], divisions: int, held_out: Sequence[str] = ()) -> Preferences:
        """Return every point whose weights are multiples of 1/divisions, the anchor of the first reward first.

        These are ``binom(divisions + M - 1, M - 1)`` points (Das & Dennis 1998): 6 for two rewards and 5 divisions, 15
        for three and 4.

        Args:
            rewards: Names of the rewards.
            divisions: Number of steps from one anchor to the next, at least 1.
            held_out: Names of further rewards, without weight in any point. No method asks them, and final pictures
                have their scores.

        Raises:
            ValueError: There are fewer than 1 divisions.
        """
        if divisions < 1:
            raise ValueError(f"divisions is {divisions}: a lattice needs at least 1")
        points = [[part / divisions for part in parts] for parts in _compositions(divisions, len(rewards))]
        alone, zeros = cls(rewards, points), [0.0] * len(held_out)
        named = {name: [*point, *zeros] for name, point in zip(alone.names, points, strict=True)}
        return cls([*rewards, *held_out], named) if held_out else alone

    def trajectories(self, anchors: bool) -> tuple[Tensor, list[int]]:
        """Return the preferences of the trajectories that run.

        Args:
            anchors: Put all M one-hot preferences first, even if nobody asked for them.

        Returns:
            Weights (P', M), and for each of the P preferences of this object the index of its row.
        """
        if not anchors:
            return self.weights, list(range(len(self)))
        corners = torch.eye(len(self.rewards), dtype=torch.float32)
        is_corner = self.weights.amax(1) == 1
        rows = torch.cat([corners, self.weights[~is_corner]])
        mixtures = iter(range(len(corners), len(rows)))
        indices = [
            int(row.argmax()) if corner else next(mixtures)
            for row, corner in zip(self.weights, is_corner.tolist(), strict=True)
        ]
        return rows, indices


def point_name(rewards: Sequence[str], point: Sequence[float]) -> str:
    """Return the name of a preference without one: each reward and its weight, 4 digits."""
    return "-".join(f"{reward}{weight:.4g}" for reward, weight in zip(rewards, point, strict=True))


def _compositions(total: int, parts: int) -> Iterator[list[int]]:
    """Yield all ways to write `total` as `parts` ordered whole numbers, the largest first one first."""
    if parts < 2:
        yield [total]
        return
    for first in range(total, -1, -1):
        for rest in _compositions(total - first, parts - 1):
            yield [first, *rest]


def _require_distinct(names: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
    ordered = sorted(zip(rows, names, strict=True))
    for (row, name), (following, other) in pairwise(ordered):
        if row == following:
            raise ValueError(f"preferences {name!r} and {other!r} are the same point {row}: give it once")
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise ValueError(
                f"preference name {name!r} can't be a file name: use at most 100 letters, digits, dots, dashes, "
                "underscores, the first a letter or digit"
            )
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two preferences are called {repeated!r}: name them apart, {{name: point}}")
