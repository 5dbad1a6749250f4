"""Gradients of rewards through sampling: against finite differences, loops by hand, and closed forms of a Gaussian."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler
from peft import LoraConfig
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from rewards import Colorfulness, JPEGCompressibility
from srsoup_lightning import Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.transition import Prediction
from srsoup_lightning.finetune import DRaFT, Training
from srsoup_lightning.finetune.draft import chances
from srsoup_lightning.finetune.finetuning import Finetuning
from srsoup_lightning.finetune.policy import Policy
from srsoup_lightning.finetune.rollout import Rollout
from srsoup_lightning.oracle import NoGradientError
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers import BaseModel
from srsoup_lightning.search.scalarise import Value
from tests.conftest import MixtureBackbone, quiet_trainer
from tests.diffusion.drawing import backbone_of
from tests.diffusion.pipelines import make
from tests.mixture import GaussianMixture
from tests.samplers.toys import SHAPE, curved, linear, normal, oracle

T = 4
MIXTURE = GaussianMixture(0.3 * normal(1, *SHAPE), spread=0.5)


def sloped(images: Tensor) -> Tensor:
    return ((images - 0.5) * normal(*images.shape[1:])).sum((1, 2, 3))


class Shifted(Policy):
    """A Gaussian whose clean prediction is shifted by a weight, which the base model does not have."""

    def __init__(self, shift: float = 0.0) -> None:
        self.shift, self.scale = nn.Parameter(shift * normal(*SHAPE, seed=9)), 1.0

    @contextmanager
    def reference(self) -> Iterator[None]:
        self.scale = 0.0
        yield
        self.scale = 1.0

    def denoiser(self) -> Denoiser:
        plain = MIXTURE.bind(T, 1.0)

        def denoise(x: Tensor, level: int) -> Prediction:
            signal, noise = plain.kernel.shares(level)
            x0 = plain.denoise(x, level).x0 + self.scale * self.shift
            return Prediction(x0, (x - signal * x0) / noise)

        return replace(plain, denoise=denoise)


def rollout_of(denoiser: Denoiser, objective: DRaFT, reward: object = curved) -> Rollout:
    problem, noise = Problem(denoiser, oracle({"a": reward}), 4), NoiseSource("a cat", 1, denoiser.shape)
    rollout = Rollout(problem, noise, 2, 0, 0, Value(torch.tensor([1.0])))
    assert objective.collect(rollout) is None
    return rollout


def draft(**options: object) -> DRaFT:
    return DRaFT(**{"num_inference_steps": T, "groups": 2, "group_size": 2} | options)


def slope(policy: Shifted, **options: object) -> Tensor:
    """Gradient of the loss with respect to the shift."""
    objective = draft(**options)
    loss = objective.loss(rollout_of(policy.denoiser(), objective), 0, 0, policy).value
    return torch.autograd.grad(loss, policy.shift)[0]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample", "flow"])
def test_the_gradient_of_a_lora_is_the_slope_of_the_loss_with_and_without_checkpointing(kind: str) -> None:
    pipeline = make("SD 3" if kind == "flow" else "SD")
    if kind != "flow":
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, prediction_type=kind)
    backbone = backbone_of(pipeline)
    backbone.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"]), seed=0)
    weights = [weight for weight in backbone.parameters() if weight.requires_grad]
    for seed, weight in enumerate(weights):
        weight.data = 0.3 * normal(*weight.shape, seed=seed)
    denoiser = backbone.bind("a cat", num_inference_steps=3, guidance_scale=2.0, eta=1.0)

    def loss(**options: object) -> Tensor:
        objective = draft(num_inference_steps=3, last_steps=3, **options)
        return objective.loss(rollout_of(denoiser, objective, sloped), 0, 0, Policy(backbone)).value

    gradients = torch.autograd.grad(loss(), weights)
    again = torch.autograd.grad(loss(checkpointing=True), weights)
    torch.testing.assert_close(again, gradients, rtol=1e-4, atol=1e-7)
    start, direction, sides = parameters_to_vector(weights).detach(), parameters_to_vector(gradients), []
    for change in (0.005, -0.005):
        vector_to_parameters(start + change * direction / direction.norm(), weights)
        sides.append(loss().item())
    assert direction.norm() > 0.01
    assert (sides[0] - sides[1]) / 0.01 == pytest.approx(direction.norm().item(), rel=0.01)


def by_hand(policy: Shifted, cut: int, renoised: int = 0) -> Tensor:
    """AlignProp's loop: outputs of the network are detached before the cut, and latents never."""
    denoiser = policy.denoiser()
    rollout, kernel = rollout_of(denoiser, draft()), denoiser.kernel

    def step(x: Tensor, level: int, copy: int) -> Tensor:
        signal, noise = kernel.shares(level)
        x0 = denoiser.denoise(x, level).x0
        x0 = x0.detach() if level < cut else x0
        prediction = Prediction(x0, (x - signal * x0) / noise)
        z = rollout.noise.normal(2, "draft", "step", level, copy)
        return kernel.mean(level, x, prediction) + kernel.sigma(level) * z

    x = rollout.noise.normal(2, "draft", "start", 0)
    for level in range(T):
        x = step(x, level, 0)
    pictures, (signal, noise) = [x], kernel.shares(T - 1)
    for copy in range(1, renoised + 1):
        again = signal * x.detach() + noise * rollout.noise.normal(2, "draft", "renoise", copy)
        pictures.append(step(again, T - 1, copy))
    losses = [-curved(denoiser.decode(picture)).mean() for picture in pictures]
    return torch.autograd.grad(sum(losses) / len(losses), policy.shift)[0]


@pytest.mark.parametrize(("last_steps", "renoised"), [(1, 0), (2, 0), (T, 0), (1, 2)])
def test_the_last_steps_alone_have_a_gradient_and_further_ones_are_averaged(last_steps: int, renoised: int) -> None:
    policy = Shifted(0.1)
    found = slope(policy, last_steps=last_steps, low_variance=renoised)
    torch.testing.assert_close(found, by_hand(policy, T - last_steps, renoised))
    assert ((found - by_hand(policy, 0)).abs().max() < 1e-6) == (last_steps == T)


def test_the_penalty_is_the_distance_of_velocities_at_constant_latents() -> None:
    policy, last_steps = Shifted(0.1), 3
    found = slope(policy, last_steps=last_steps, kl=0.5) - slope(policy, last_steps=last_steps)
    powers = [policy.denoiser().kernel.shares(level).noise ** -2 for level in range(T - last_steps, T)]
    expected = 0.5 * sum(powers) / last_steps * 2 * policy.shift.detach() / policy.shift.numel()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("target", "sign"), [(None, 1), (10.0, 1), (-10.0, -1)])
def test_steps_against_the_gradient_move_the_mean_by_the_reward_s_direction(target: float | None, sign: int) -> None:
    """The picture is x0 / 8 + 1/2, and the last x0 is shifted by the weight."""
    policy, objective = Shifted(), draft(target=target)
    optimizer = torch.optim.SGD([policy.shift], lr=1.0)
    for _ in range(5):
        optimizer.zero_grad()
        objective.loss(rollout_of(policy.denoiser(), objective, linear(0)), 0, 0, policy).value.backward()
        optimizer.step()
    torch.testing.assert_close(policy.shift.detach(), sign * 5 * normal(*SHAPE, seed=100) / 8)


@pytest.mark.parametrize("weights", [[1.0, 0.0, 0.0], [0.3, 0.7, 0.0]])
@pytest.mark.parametrize("options", [{}, {"last_steps": 3}, {"low_variance": 2}, {"last_steps": 3, "kl": 1.0}])
def test_costs_and_units_are_those_of_the_docstring(options: dict, weights: list[float]) -> None:
    rewards = {"a": linear(0), "b": lambda images: 1000 * linear(1)(images), "held": curved}
    asked, policy = oracle(rewards), Shifted(0.1)
    asked.rewards["held"].is_differentiable = False
    denoiser, objective = replace(policy.denoiser(), evaluations=2), draft(group_size=3, train_batch=2, **options)
    problem_of = lambda prompt, meter: Problem(denoiser, asked, 4, prompt, meter)  # noqa: E731
    tuning = Finetuning(Training(objective=objective), policy, problem_of, torch.tensor(weights))
    n, k, extra, names = objective.low_variance, objective.last_steps, objective.kl > 0, ["a", "b"][: weights.index(0)]
    for first in (len(names) > 1, False):
        tuning.collect(["a cat", "a dog"])
        if first:
            sampled = torch.cat([group.rewards for group in tuning.rollouts])[:, :2]
        logs, *_ = [tuning.loss(batch).logs for batch in range(tuning.batches)]
        ledger = tuning.meter.ledger
        assert (ledger.nfe, ledger.decodes) == (12 * (T * (1 + first) + n + extra * (2 * k - 1)), 6 * (1 + n + first))
        assert ledger.gradients == 6 * (k + n + extra * (k - 1))
        assert +Counter(ledger.queries) == Counter(dict.fromkeys(names, ledger.decodes))
        if len(names) > 1:
            found = torch.stack([logs["reward/a"], logs["reward/b"]])
            expected = (found - sampled.mean(0)) / sampled.std(0, correction=0) @ torch.tensor(weights[:2])
            torch.testing.assert_close(logs["value"], expected, rtol=1e-3, atol=1e-4)
        tuning.end_round()


def test_cuts_have_the_probabilities_of_draws_that_are_repeated() -> None:
    assert torch.equal(chances("uniform", 5), torch.full((4,), 0.25, dtype=torch.float64))
    cuts = (42 + 5 * torch.randn(400_000, generator=torch.Generator().manual_seed(0))).floor()
    cuts = cuts[(cuts >= 1) & (cuts < 50)].long()
    expected = cuts.bincount(minlength=50)[1:] / len(cuts)
    torch.testing.assert_close(chances("normal", 50).float(), expected, rtol=0, atol=2e-3)
    rollout, found = rollout_of(Shifted().denoiser(), draft()), set()
    for seed in range(30):
        rollout.noise = replace(rollout.noise, seed=seed)
        draft(truncation="uniform").collect(rollout)
        found.add(rollout.steps)
    assert found == {(3,), (2, 3), (1, 2, 3)}


def test_a_reward_without_gradient_is_refused_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MixtureBackbone, "bind", lambda *_, **__: pytest.fail("the model was bound"))
    rewards, alone = {"color": Colorfulness(), "jpeg": JPEGCompressibility()}, Preferences(["color", "jpeg"], [[0, 1]])
    module = SRSoupModule(MixtureBackbone(), rewards, BaseModel(), alone, training=Training(objective=draft()))
    with pytest.raises(NoGradientError, match="DRaFT needs gradients from rewards to pixels, which 'jpeg' can't give"):
        quiet_trainer(max_epochs=1).fit(module, datamodule=PromptDataModule(["a cat"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"last_steps": 0}, "last_steps is 0: give at least 1"),
        ({"last_steps": 5}, "last_steps is 5, and there are 4 steps: give at most num_inference_steps"),
        ({"truncation": "random"}, "random"),
        ({"truncation": "normal", "last_steps": 2}, "truncation is normal, which draws .* 1 ... 3: leave last_steps"),
        ({"truncation": "uniform", "num_inference_steps": 1}, "give at least 2 num_inference_steps"),
        ({"low_variance": 1, "last_steps": 2}, "low_variance is 1, for last_steps: 1 and a fixed truncation alone"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draft(**options)
