"""Every black-box method on tiny-animals and its flow: better than unsteered pictures, and repeatable."""

from __future__ import annotations

import inspect
from dataclasses import fields
from functools import cache
from statistics import fmean, stdev

import pytest
import torch

from rewards import JPEGCompressibility
from srsoup_lightning import Preferences, SRSoupModule, samplers
from srsoup_lightning.samplers import Auto, BaseModel, Sampler, Selection, Soup, Surrogate, ZeroOrder

PROMPTS = ("a lobster", "a zebra", "a frog", "a duck", "a cow")
COMMON = {"num_inference_steps": 10, "guidance_scale": 5.0}
SIZES = {
    **{"candidates": 8, "pool": 16, "particles": 16, "scorings": 5, "children": 8, "leaves": 24, "rounds": 4},
    **{"budget": 96, "initial": 16, "noises": 4, "warm_up": 8, "batch": 4, "iterations": 4, "popsize": 8, "elites": 3},
    **{"level": 1},
}
UNSTEERED = 12
KINDS = [kind for kind in map(samplers.__dict__.get, samplers.__all__) if inspect.isclass(kind)]
BLACK_BOX = [
    kind
    for kind in KINDS
    if issubclass(kind, Sampler) and not inspect.isabstract(kind) and not kind.needs_gradient and kind is not BaseModel
]


def small(kind: type[Sampler]) -> Sampler:
    if kind is Auto:  # its default components are those of a long run
        return Auto(**COMMON, candidates=8, selection=Selection(pool=16), surrogate=Surrogate(previews=12))
    if kind is ZeroOrder:  # eight neighbours of one start are hardly a search
        return ZeroOrder(**COMMON, neighbours=4, rounds=6)
    return kind(**COMMON, **{field.name: SIZES[field.name] for field in fields(kind) if field.name in SIZES})


@cache
def module(pipeline: str) -> SRSoupModule:
    made = SRSoupModule(pipeline, {"jpeg": JPEGCompressibility()}, BaseModel(**COMMON), Preferences(["jpeg"], [[1.0]]))
    made.configure_model()
    return made


def soup(pipeline: str, sampler: Sampler, prompt: str, seed: int = 0) -> Soup:
    made = module(pipeline)
    made.sampler, made.max_batch = sampler, 16
    with torch.inference_mode():
        return sampler.run(made.problem(prompt), made.preferences, prompt, seed)


@cache
def unsteered(pipeline: str, prompt: str) -> tuple[float, float]:
    found = [float(soup(pipeline, BaseModel(**COMMON), prompt, seed).rewards) for seed in range(100, 100 + UNSTEERED)]
    return fmean(found), stdev(found)


@pytest.mark.checkpoints
@pytest.mark.parametrize("pipeline", ["tiny-animals", "tiny-animals-flow"])
@pytest.mark.parametrize("kind", BLACK_BOX)
def test_a_method_is_better_than_unsteered_pictures_beyond_chance(pipeline: str, kind: type[Sampler]) -> None:
    gains = []
    for prompt in PROMPTS:
        mean, deviation = unsteered(pipeline, prompt)
        found = soup(pipeline, small(kind), prompt)
        gains.append((float(found.rewards) - mean) / deviation)
    assert fmean(gains) > 2.8 * stdev(gains) / len(gains) ** 0.5, gains  # Student's t, 4 degrees of freedom: p < 0.025
    again = soup(pipeline, small(kind), PROMPTS[-1])
    assert torch.equal(again.images, found.images)
    assert again.ledger.queries == found.ledger.queries
