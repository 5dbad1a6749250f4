"""Networks in bfloat16 under every method that differentiates: all that accumulates is float32, and gradients agree."""

from __future__ import annotations

from collections import defaultdict
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from rewards import CLIPScore, Colorfulness
from srsoup_lightning import Loading, Preferences, SRSoupModule
from srsoup_lightning.oracle import RewardOracle
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers import NoiseOptimisation
from tests.samplers.test_contract import BY_GRADIENT, SAMPLERS

SETTINGS = {"num_inference_steps": 2, "guidance_scale": 5.0}  # over more steps, trajectories of two precisions part
OPTIMISED = [name for name, make in SAMPLERS.items() if isinstance(make(), NoiseOptimisation)]


@cache
def module(dtype: str) -> SRSoupModule:
    rewards = {"color": Colorfulness(), "clip": CLIPScore("tiny-clip")}
    preferences, loading = Preferences(list(rewards), [[0.5, 0.5]]), Loading(dtype=dtype)
    made = SRSoupModule("tiny-animals", rewards, SAMPLERS["dsg"](), preferences, loading=loading)
    made.configure_model()
    return made


class Witness:
    """Number types of all tensors that go through some functions, and the results of these, by name."""

    def __init__(self) -> None:
        self.types, self.results = defaultdict[str, set[torch.dtype]](set), defaultdict[str, list](list)

    def note(self, name: str, *values: object) -> None:
        for value in values:
            if isinstance(value, Tensor) and value.is_floating_point():
                self.types[name].add(value.dtype)
            elif isinstance(value, tuple):
                self.note(name, *value)

    def watch(self, patch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        call = getattr(owner, name)

        def watched(*arguments: object, **options: object) -> object:
            self.results[name].append(call(*arguments, **options))
            self.note(name, *arguments, self.results[name][-1])
            return self.results[name][-1]

        patch.setattr(owner, name, watched)


@pytest.mark.parametrize("name", sorted({*BY_GRADIENT, *OPTIMISED}))
def test_networks_alone_are_in_half_precision_and_gradients_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for dtype in ("float32", "bfloat16"):
        made, seen = module(dtype), Witness()
        made.sampler = SAMPLERS[name](**SETTINGS)

        def optimised(optimizer: Optimizer, *_: object, seen: Witness = seen) -> None:
            for state in optimizer.state.values():
                seen.note("optimizer", *state.values())

        hooks = [
            made.backbone.network.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.note("network", inputs)),
            register_optimizer_step_post_hook(optimised),
        ]
        with monkeypatch.context() as patch:
            for method in ("evaluate", "gradient"):
                seen.watch(patch, Problem, method)
            for method in ("score", "differentiable_score"):
                seen.watch(patch, RewardOracle, method)
            soup = made.sampler.run(made.problem("a lobster"), made.preferences, "a lobster", 0)
        for hook in hooks:
            hook.remove()
        assert seen.types.pop("network") == {getattr(torch, dtype)}
        assert {"evaluate", "gradient", "score"} <= set(seen.types)
        assert ("optimizer" in seen.types) == (name in OPTIMISED)
        assert set().union(*seen.types.values()) == {torch.float32}
        assert soup.rewards.isfinite().all()
        found[dtype] = seen.results["gradient"][0].flatten()
    assert cosine_similarity(*found.values(), dim=0) > 0.99
