"""Search tree over the latents of a denoising process, with one table of soft values for each preference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

ROOT = 0  # the dummy whose children are starts


@dataclass(frozen=True)
class Branching:
    """Rule by which a tree grows.

    Args:
        exploration: Weight of the bonus for nodes that were visited seldom, at least 0, in units of the value.
        widening: C above 0. A node that was visited N times may have ``C N^alpha`` children, at least one.
        exponent: alpha, in (0, 1].
    """

    exploration: float
    widening: float
    exponent: float

    def allowed(self, visits: int) -> int:
        """Return the number of children that a node may have after so many visits (Coulom 2007; Couetoux 2011)."""
        return max(1, math.floor(self.widening * visits**self.exponent))

    def score(self, value: float, visits: int, visits_of_parent: int) -> float:
        """Return the upper confidence bound of a node (Kocsis & Szepesvari 2006)."""
        return value + self.exploration * math.sqrt(math.log(visits_of_parent) / visits)


@dataclass(frozen=True)
class Tree:
    """Nodes of a tree, in the order of their creation. Node 0 is the root, and parents come before their children.

    Args:
        noisy: Whether each of the T steps draws noise. Otherwise a node of its level has one child.
        branching: Rule by which the tree grows.

    Attributes:
        parents: Parent of each node. That of the root is the root.
        levels: Level of each node, 0 ... T. That of the root is -1.
        children: Children of each node.
        visits: Number of visits of each node.
    """

    noisy: Sequence[bool]
    branching: Branching
    parents: list[int] = field(default_factory=lambda: [ROOT])
    levels: list[int] = field(default_factory=lambda: [-1])
    children: list[list[int]] = field(default_factory=lambda: [[]])
    visits: list[int] = field(default_factory=lambda: [0])

    def select(self, values: Sequence[float]) -> int:
        """Descend to the node that gets a new child, and count the visits on the way.

        A visit counts before its leaf is known, so leaves that are under way at the same time spread (Liu et al. 2020,
        arXiv:1810.11755). A descent that ends at an old leaf is repeated.

        Args:
            values: Value of each node that has a leaf with known rewards below it. Younger nodes are not selected.
        """
        node = ROOT
        while True:
            self.visits[node] += 1
            children, level = self.children[node], self.levels[node]
            if level == len(self.noisy):
                node = ROOT
                continue
            known = [child for child in children if child < len(values)]
            if (level < 0 or self.noisy[level]) and (
                not known or len(children) < self.branching.allowed(self.visits[node])
            ):
                return node
            scores = [self.branching.score(values[child], self.visits[child], self.visits[node]) for child in known]
            node = known[scores.index(max(scores))]

    def extend(self, node: int) -> list[int]:
        """Add a child to a node and a path from it to a leaf, and return the new nodes. Each has one visit."""
        path = []
        for level in range(self.levels[node] + 1, len(self.noisy) + 1):
            child = len(self.parents)
            self.children[node].append(child)
            self.parents.append(node)
            self.levels.append(level)
            self.children.append([])
            self.visits.append(1)
            path.append(child)
            node = child
        return path


def soft_values(tree: Tree, leaves: Sequence[int], values: Tensor, inverse_temperature: float) -> Tensor:
    """Back up the values of all leaves: ``V = log mean_children exp(lambda V) / lambda``.

    Jain et al. 2025, arXiv:2506.20701.

    Args:
        tree: Tree.
        leaves: Nodes that are leaves.
        values: Their values (P, L) to each of P preferences.
        inverse_temperature: lambda, at least 0. 0 takes the mean.

    Returns:
        Soft values of all nodes, (P, nodes), float64.
    """
    found = torch.full((len(values), len(tree.parents)), -torch.inf, dtype=torch.float64, device=values.device)
    found[:, leaves] = values.double()
    levels, parents = (
        torch.tensor(each, dtype=torch.int64, device=values.device) for each in (tree.levels, tree.parents)
    )
    for level in range(len(tree.noisy), -1, -1):
        nodes = (levels == level).nonzero()[:, 0]
        above, index = parents[nodes].unique(return_inverse=True)
        own, empty, count = found[:, nodes], found.new_zeros(len(values), len(above)), index.bincount()
        if inverse_temperature == 0:
            found[:, above] = empty.index_add(1, index, own) / count
            continue
        highest = empty.scatter_reduce(1, index.expand_as(own), own, "amax", include_self=False)
        mean = empty.index_add(1, index, (inverse_temperature * (own - highest[:, index])).exp()) / count
        found[:, above] = highest + mean.log() / inverse_temperature
    return found
