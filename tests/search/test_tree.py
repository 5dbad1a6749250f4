"""Search trees against a plain recursion."""

from __future__ import annotations

from math import exp, log

import pytest
import torch

from srsoup_lightning.search.tree import ROOT, Branching, Tree, soft_values
from tests.samplers.toys import normal

NOISY = [True, False, True, True, False]


def grown(branching: Branching, batches: int, batch: int) -> tuple[Tree, list[int], torch.Tensor]:
    """A tree, its leaves and their values (2, L) to two preferences, which take turns."""
    tree, leaves, values = Tree(NOISY, branching), [], torch.zeros(2, 1)
    rewards = normal(2, batches * batch)
    for _ in range(batches):
        for table in values.repeat(batch, 1).tolist()[:batch]:
            leaves.append(tree.extend(tree.select(table))[-1])
        values = soft_values(tree, leaves, rewards[:, : len(leaves)], 2.0)
    return tree, leaves, rewards


@pytest.mark.parametrize("inverse_temperature", [0.0, 0.5, 200.0])
def test_values_are_backed_up_as_by_recursion(inverse_temperature: float) -> None:
    tree, leaves, rewards = grown(Branching(1.0, 1.0, 0.5), batches=10, batch=3)
    for preference in range(2):
        known = dict(zip(leaves, rewards[preference].tolist(), strict=True))

        def value(node: int, known: dict[int, float] = known) -> float:
            if node in known:
                return known[node]
            below = [value(child) for child in tree.children[node]]
            if inverse_temperature == 0:
                return sum(below) / len(below)
            top = max(below)
            mean = sum(exp(inverse_temperature * (each - top)) for each in below) / len(below)
            return top + log(mean) / inverse_temperature

        found = soft_values(tree, leaves, rewards, inverse_temperature)[preference].tolist()
        assert found == pytest.approx([value(node) for node in range(len(tree.parents))])


def test_a_tree_grows_by_its_rule() -> None:
    branching = Branching(0.5, 1.0, 0.5)
    tree, leaves, _ = grown(branching, batches=20, batch=2)
    assert [tree.levels[leaf] for leaf in leaves] == [len(NOISY)] * 40
    for node, (children, level) in enumerate(zip(tree.children, tree.levels, strict=True)):
        assert all(tree.parents[child] == node and tree.levels[child] == level + 1 for child in children)
        assert tree.visits[node] >= len(children)
        if level == len(NOISY):
            assert not children
        elif level >= 0 and not NOISY[level]:
            assert len(children) == 1
        elif node != ROOT:
            assert len(children) <= branching.allowed(tree.visits[node])
    assert 2 < len(tree.children[ROOT]) < 20 < sum(len(children) > 1 for children in tree.children) + 20


@pytest.mark.parametrize(("exploration", "expected"), [(0.0, "often"), (1.0, "seldom")])
def test_the_node_with_the_highest_bound_is_selected(exploration: float, expected: str) -> None:
    tree = Tree([True, True], Branching(exploration, widening=1.0, exponent=0.5))
    starts = {name: tree.extend(ROOT)[0] for name in ("often", "seldom")}
    tree.visits[ROOT], tree.visits[starts["often"]], tree.visits[starts["seldom"]] = 7, 20, 3
    values = [0.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5]  # the bounds are 1 + (log 8 / 20)^0.5 = 1.32 and 0.5 + 0.83
    assert tree.select(values) == starts[expected]
    assert tree.visits[ROOT] == 8
    tree.visits[ROOT] = 8  # the next visit allows a third start
    assert tree.select(values) == ROOT


def test_leaves_that_are_under_way_are_passed_by() -> None:
    tree = Tree([True], Branching(exploration=1.0, widening=1.0, exponent=0.1))
    for _ in range(3):
        assert tree.select([0.0]) == ROOT
        tree.extend(ROOT)
