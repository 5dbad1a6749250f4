"""Adapters for every preference, against LoRAs that diffusers merges into the network, one mixture at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from srsoup_lightning import Loading, Preferences
from srsoup_lightning.adapters import MORL, Adapters, DiffusionBlend, RewardedSoup
from srsoup_lightning.adapters.policies import drawn
from srsoup_lightning.diffusion.loading.pipeline import load_backbone
from srsoup_lightning.diffusion.loading.resident import add_adapters
from srsoup_lightning.oracle import RewardOracle
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers import SVDD, BaseModel, Sampler, SRSoup
from srsoup_lightning.samplers.rehearsal import count
from tests.diffusion.drawing import backbone_of
from tests.diffusion.pipelines import make
from tests.diffusion.test_loras import save_lora
from tests.samplers.toys import curved, oracle

REWARDS = ("a", "b")
WEIGHTS = torch.tensor([[1.0, 0.0], [0.25, 0.75], [0.0, 1.0], [0.5, 0.5]], dtype=torch.float32)
LEVEL = 1


@pytest.fixture(scope="module", params=["SD", "SDXL", "SD 3", "FLUX.1 dev"])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def loras(family: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A LoRA for each reward."""
    folders = {name: tmp_path_factory.mktemp("loras") / name for name in REWARDS}
    part = "unet" if hasattr(make(family), "unet") else "transformer"
    for seed, folder in enumerate(folders.values()):
        save_lora(make(family), folder, part, seed)
    return {name: str(folder) for name, folder in folders.items()}


def rewards() -> RewardOracle:
    return oracle({"a": curved, "b": lambda images: -curved(images + 1)})


def problem_of(family: str, policy: Adapters | None = None, guidance_scale: float = 3.0) -> Problem:
    backbone = backbone_of(make(family))
    if policy is not None:
        add_adapters(backbone, policy)
    denoiser = backbone.bind("a snail", num_inference_steps=4, guidance_scale=guidance_scale, eta=1.0)
    return Problem(denoiser, rewards(), 3, "a snail")


def latents(problem: Problem) -> Tensor:
    return torch.randn(len(WEIGHTS), *problem.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float32)


def predicted(problem: Problem, preferences: Tensor | None = WEIGHTS) -> Tensor:
    with torch.no_grad():
        return problem.denoise(latents(problem), LEVEL, preferences=preferences).x0


def merged(family: str, loras: dict[str, str], weights: list[float], row: int) -> Tensor:
    """Prediction for one row by a network that has a mixture of the LoRAs merged into it by diffusers."""
    pipeline = make(family)
    names = list(loras)
    for name, folder in loras.items():
        pipeline.load_lora_weights(folder, adapter_name=name)
    pipeline.set_adapters(names, weights)
    pipeline.fuse_lora(components=["unet" if hasattr(pipeline, "unet") else "transformer"])
    pipeline.unload_lora_weights()
    denoiser = backbone_of(pipeline).bind("a snail", num_inference_steps=4, guidance_scale=3.0, eta=1.0)
    problem = Problem(denoiser, rewards(), 3, "a snail")
    return predicted(problem, None)[row]


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-4)


def test_a_soup_mixes_the_weights_of_each_row(family: str, loras: dict[str, str]) -> None:
    problem = problem_of(family, RewardedSoup(loras, strength=0.8))
    found = predicted(problem)
    for row, weights in enumerate((0.8 * WEIGHTS).tolist()):
        same(found[row], merged(family, loras, weights, row))
    assert problem.ledger.nfe == len(WEIGHTS) * problem.denoiser.evaluations


def test_a_blend_mixes_the_predictions_of_each_row(family: str, loras: dict[str, str]) -> None:
    problem = problem_of(family, DiffusionBlend(loras))
    found, base = predicted(problem), predicted(problem_of(family), None)
    alone = [torch.stack([merged(family, loras, one, row) for row in range(4)]) for one in ([1.0, 0.0], [0.0, 1.0])]
    blended = sum(weights.view(-1, 1, 1, 1) * each for weights, each in zip(WEIGHTS.T, alone, strict=True))
    same(found, blended)
    assert problem.ledger.nfe == 6 * problem.denoiser.evaluations  # corners have one adapter, the others two
    stronger = problem_of(family, DiffusionBlend(loras, strength=1.5))
    same(predicted(stronger), 1.5 * blended - 0.5 * base)
    once = problem_of(family, DiffusionBlend(loras, mode="drawn")).drawing(lambda level: 0.3)
    same(predicted(once), torch.stack([alone[adapter][row] for row, adapter in enumerate([0, 1, 1, 0])]))


def test_one_adapter_each_is_the_one_that_was_trained_for_the_preference(loras: dict[str, str], family: str) -> None:
    policy = MORL({loras["a"]: {"a": 1.0}, loras["b"]: {"a": 0.25, "b": 0.75}})
    policy.check(REWARDS, WEIGHTS[:2], 1.0)
    with pytest.raises(ValueError, match="0 adapters were trained for the preference"):
        policy.check(REWARDS, WEIGHTS[[3]], 1.0)
    same(predicted(problem_of(family, policy), WEIGHTS[[0, 1, 1, 0]])[1], merged(family, loras, [0.0, 1.0], 1))


def test_adapters_are_drawn_with_their_weights() -> None:
    chances = (torch.arange(1000, dtype=torch.float32) + 0.5) / 1000
    shares = torch.tensor([[0.2, 0.0, 0.8], [1.0, 0.0, 0.0]], dtype=torch.float32)
    means = torch.stack([drawn(shares, float(chance)) for chance in chances]).mean(0)
    torch.testing.assert_close(means, shares, rtol=0, atol=1e-3)


@pytest.mark.parametrize("family", ["SD"], indirect=True)
@pytest.mark.parametrize(
    "sampler",
    [
        lambda **options: BaseModel(**options),
        lambda **options: SRSoup(candidates=2, **options),
        lambda **options: SRSoup(candidates=2, completion=3, **options),
        lambda **options: SVDD(children=2, **options),
    ],
)
def test_every_sampler_runs_on_a_blend_and_its_corner_is_the_adapter_alone(
    loras: dict[str, str], family: str, sampler: Callable[..., Sampler]
) -> None:
    method = sampler(num_inference_steps=4, guidance_scale=3.0, eta=1.0, max_batch=3)
    preferences, corner = Preferences(REWARDS, WEIGHTS.tolist()), Preferences(REWARDS, [[0.0, 1.0]])
    problem = problem_of(family, DiffusionBlend(loras))
    with torch.inference_mode():
        soup = method.run(problem, preferences, "a snail", 0)
        alone = method.run(problem_of(family, RewardedSoup({"b": loras["b"]})), corner, "a snail", 0)
    torch.testing.assert_close(soup.images[2], alone.images[0], rtol=0, atol=1e-3)
    assert soup.ledger.nfe == count(method, preferences, model=problem.denoiser).nfe


def test_bad_policies_are_refused_in_one_line(loras: dict[str, str], family: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="RewardedSoup has no adapters: give one for each reward"):
        RewardedSoup({})
    with pytest.raises(ValueError, match=r"there is no adapter for \['b'\]: give one for each reward that"):
        RewardedSoup({"a": loras["a"]}).check(REWARDS, WEIGHTS, 1.0)
    with pytest.raises(ValueError, match=r"adapters are given for \['c'\]: the rewards are \['a', 'b'\]"):
        RewardedSoup(loras | {"c": "x"}).check(REWARDS, WEIGHTS, 1.0)
    with pytest.raises(ValueError, match="eta is 0, and the adapter of each step is drawn"):
        DiffusionBlend(loras, mode="drawn").check(REWARDS, WEIGHTS, 0.0)
    with pytest.raises(FileNotFoundError, match=r"no LoRA '.*missing'"):
        add_adapters(backbone_of(make(family)), RewardedSoup({"a": str(tmp_path / "missing")}))
    other = "SD 3" if family == "SD" else "SD"
    with pytest.raises(ValueError, match=r"LoRA '.*' (can't be loaded into|adapts nothing)"):
        add_adapters(backbone_of(make(other)), RewardedSoup({"a": loras["a"]}))
    with pytest.raises(ValueError, match="predictions depend on the preference, and none is given"):
        predicted(problem_of(family, RewardedSoup(loras)), None)


def test_a_pipeline_loads_with_its_adapters(tmp_path: Path, loras: dict[str, str], family: str) -> None:
    make(family).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="adapters are given, and compile is on"):
        load_backbone(str(tmp_path), Loading(compile=True), RewardedSoup(loras))
    loaded = load_backbone(str(tmp_path), adapters=RewardedSoup(loras))
    assert loaded.adapters is not None
    assert not any(weight.requires_grad for weight in loaded.parameters())
