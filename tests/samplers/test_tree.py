"""Diffusion tree search against best of N, and against its own tree followed by hand."""

from __future__ import annotations

from bisect import bisect_left

import pytest
import torch

from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.samplers import DTS, BaseModel, BestOfN
from srsoup_lightning.samplers import tree as module
from srsoup_lightning.search.tree import Tree
from tests.samplers.toys import SHAPE, bind, lattice, linears, run

STEPS, LEAVES = 5, 14


def test_one_leaf_is_the_base_model() -> None:
    one, base = (
        run(make, lattice(2, 2))
        for make in (DTS(num_inference_steps=STEPS, leaves=1), BaseModel(num_inference_steps=STEPS))
    )
    torch.testing.assert_close(one.images, base.images)
    assert one.ledger.nfe == STEPS


def test_a_tree_of_starts_alone_is_best_of_n() -> None:
    preferences = lattice(3, 1)
    tree = run(DTS(num_inference_steps=STEPS, leaves=LEAVES, exponent=1.0), preferences)
    pool = run(BestOfN(num_inference_steps=STEPS, pool=LEAVES), preferences)
    torch.testing.assert_close(tree.images, pool.images)
    assert (tree.ledger.nfe, tree.ledger.queries) == (pool.ledger.nfe, pool.ledger.queries)


@pytest.mark.parametrize("divisions", [1, 4])
def test_queries_do_not_depend_on_the_number_of_preferences(divisions: int) -> None:
    soup = run(DTS(num_inference_steps=STEPS, leaves=LEAVES), lattice(2, divisions))
    assert soup.ledger.queries == {"a": LEAVES, "b": LEAVES}
    alone = run(DTS(num_inference_steps=STEPS, leaves=LEAVES), Preferences(["a", "b"], [[1.0, 0.0]]))
    assert alone.ledger.queries == {"a": LEAVES, "b": 0}


@pytest.mark.parametrize("final_alpha", [1.0, 0.99])
def test_pictures_are_those_of_the_tree_followed_by_hand(monkeypatch, final_alpha: float) -> None:
    trees: list[Tree] = []
    monkeypatch.setattr(module, "Tree", lambda *arguments: trees.append(Tree(*arguments)) or trees[0])
    sampler, preferences = DTS(num_inference_steps=STEPS, leaves=LEAVES, batch=3, exponent=0.3), lattice(2, 1)
    denoiser, noise = bind(sampler, final_alpha), NoiseSource("a lobster", 0, SHAPE)
    soup = run(sampler, preferences, denoiser=denoiser)
    (tree,) = trees
    leaves = [node for node, level in enumerate(tree.levels) if level == STEPS]
    assert len(leaves) == LEAVES > len(tree.children[0])
    assert soup.ledger.nfe == len(tree.levels) - 1 - LEAVES
    pictures = []
    for leaf in leaves:
        path = [leaf]
        while tree.levels[path[0]] > 0:
            path.insert(0, tree.parents[path[0]])
        members = [bisect_left(leaves, node) for node in path]  # the leaf that each node was made for
        x = noise.start(members[0])[None]
        for step, member in enumerate(members[1:]):
            mean = denoiser.kernel.mean(step, x, denoiser.denoise(x, step))
            x = mean + denoiser.kernel.sigma(step) * noise.step(step, member)
        pictures.append(denoiser.decode(x))
    scores = torch.stack([score(torch.cat(pictures)) for score in linears(2).values()])
    torch.testing.assert_close(soup.images, torch.cat(pictures)[scores.argmax(1)])


def test_bad_numbers_are_named() -> None:
    for option, number in (("widening", 0), ("exponent", 1.5), ("exponent", 0.0), ("batch", 1), ("leaves", 0)):
        with pytest.raises(ValueError, match=f"{option} is {number}: give "):
            DTS(**{option: number})
