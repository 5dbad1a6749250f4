"""Functions of all shapes of answer, found by path, with and without gradients, on either device's side."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from rewards import Brightness, FunctionReward, Reward
from rewards.function_reward import as_rewards
from tests.rewards.conftest import one_line, redness, smooth

PROMPTS = ["a", "bb", "ccc", "dddd"]


class Judge:
    """A class whose instances can be called, and a method."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def __call__(self, images: Tensor, prompts: list[str]) -> list[float]:
        return [self.factor * len(prompt) for prompt in prompts]

    @staticmethod
    def length(image: Tensor, prompt: str) -> int:
        assert image.shape == (3, 6, 5)
        return len(prompt)


class Weighted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(3, 1, 1))

    def forward(self, images: Tensor, prompts: list[str]) -> Tensor:
        return self.layer(images).mean((1, 2, 3))


def scored(judge: Reward) -> list[float]:
    return judge.score(smooth(6, 5), PROMPTS).tolist()


ANSWERS = {
    "tensor": torch.tensor([1.0, 2, 3, 4]),
    "column": torch.tensor([[1.0], [2], [3], [4]]),
    "half": torch.tensor([1.0, 2, 3, 4], dtype=torch.bfloat16),
    "integers": [1, 2, 3, 4],
    "array": np.array([1.0, 2, 3, 4]),
    "tuple of all kinds": (1, 2.0, np.float64(3), torch.tensor([4.0])),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_answers_of_all_kinds_are_the_scores(answer: object) -> None:
    scores = FunctionReward(lambda images, prompts: answer).score(smooth(6, 5), PROMPTS)
    torch.testing.assert_close(scores, torch.tensor([1.0, 2, 3, 4]))


def test_a_squeezed_answer_for_one_image() -> None:
    reward = FunctionReward(lambda images, prompts: images.mean((1, 2, 3)).squeeze())
    for images in (smooth(6, 5), smooth(6, 5, 1)):
        torch.testing.assert_close(reward.score(images, PROMPTS[: len(images)]), images.mean((1, 2, 3)))


@pytest.mark.parametrize(
    ("answer", "described"),
    [
        (torch.ones(3), r"Tensor of shape \(3,\)"),
        (torch.ones(4, 2), r"Tensor of shape \(4, 2\)"),
        (torch.tensor(1.0), r"Tensor of shape \(\)"),
        (np.ones(1), r"ndarray of shape \(1,\)"),
        ([1.0, 2.0], "list of 2 float"),
        ([None] * 4, "list of 4 NoneType"),
        ([[1, 2]] * 4, "list of 4 list"),
        ([], "list"),
        ("abcd", "str"),
        (dict.fromkeys(range(4)), "dict"),
        (0.5, "float"),
        (None, "NoneType"),
    ],
)
def test_other_answers_are_described_in_one_line(answer: object, described: str) -> None:
    def odd(images: Tensor, prompts: list[str]) -> object:
        return answer

    with one_line(ValueError, f"odd returned {described} for 4 images: give one number an image"):
        scored(FunctionReward(odd))


def test_each_image_goes_with_its_own_prompt_and_paths_lead_to_functions_methods_and_instances() -> None:
    images = smooth(6, 5)
    by_image = FunctionReward(lambda image, prompt: image.max(), each=True).score(images, PROMPTS)
    torch.testing.assert_close(by_image, images.amax((1, 2, 3)))
    by_path = FunctionReward("tests.rewards.conftest.redness").score(images, PROMPTS)
    torch.testing.assert_close(by_path, redness(images, PROMPTS))
    for length in (Judge.length, f"{__name__}.Judge.length"):
        assert scored(FunctionReward(length, each=True)) == [1, 2, 3, 4]
    assert scored(FunctionReward(Judge(2))) == [2, 4, 6, 8]


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        ("no_such_package.score", ValueError, "'no_such_package.score', and importing it failed .*no_such_package"),
        ("tests.rewards.conftest.rednes", ValueError, "conftest.rednes'.*no attribute 'rednes'"),
        ("not a path", ValueError, "'not a path'.*mypackage.scores.redness"),
        ("math.pi", TypeError, "math.pi is a float: give a function of"),
        (torch.rand(3, 3), TypeError, "function is a Tensor: give a function of"),
    ],
)
def test_functions_that_are_refused(function: object, error: type[Exception], message: str) -> None:
    with one_line(error, message):
        FunctionReward(function)


@pytest.mark.parametrize("each", [False, True])
def test_gradients_as_declared(each: bool) -> None:
    def red(images: Tensor, prompts: object) -> Tensor:
        assert images.requires_grad
        return images[..., 0, :, :].mean((-1, -2))

    images = smooth(6, 5).requires_grad_()
    judge = FunctionReward(red, each=each, is_differentiable=True)
    (gradient,) = torch.autograd.grad(judge.score(images, PROMPTS).sum(), images)
    expected = torch.zeros_like(images)
    expected[:, 0] = 1 / 30
    torch.testing.assert_close(gradient, expected)
    assert not FunctionReward(red, each=each).score(images, PROMPTS).requires_grad
    with torch.no_grad():
        assert not judge.score(images, PROMPTS).requires_grad


def test_the_network_inside_is_frozen_and_in_no_checkpoint() -> None:
    network = Weighted().train()
    judge = FunctionReward(network, is_differentiable=True)
    parent = nn.ModuleDict({"judge": judge}).train()
    assert not list(parent.parameters())
    assert not parent.state_dict()
    assert not any(part.training for part in network.modules())
    assert not any(weight.requires_grad for weight in network.parameters())
    twin = pickle.loads(pickle.dumps(judge))
    assert scored(twin) == scored(judge)
    parent.to("meta")
    assert {weight.device.type for weight in judge.function.parameters()} == {"meta"}
    assert {weight.device.type for weight in twin.function.parameters()} == {"cpu"}


def test_on_cpu_hands_the_images_over_there() -> None:
    class Elsewhere(Tensor):
        """A tensor that can't be read before it is moved."""

        def cpu(self) -> Tensor:
            return self.as_subclass(Tensor)

    def plain(images: Tensor, prompts: list[str]) -> list[bool]:
        return [type(images) is Tensor] * len(images)

    images = smooth(6, 5).as_subclass(Elsewhere)
    for on_cpu in (True, False):
        reward = FunctionReward(plain, is_differentiable=on_cpu, on_cpu=on_cpu)
        assert (reward.is_differentiable, reward.on_cpu) == (on_cpu, on_cpu)
        assert FunctionReward(plain, on_cpu=on_cpu).score(images, PROMPTS).tolist() == [on_cpu] * 4


def test_the_mean_of_a_function_s_scores() -> None:
    reward = FunctionReward(Judge())
    reward.update(smooth(6, 5), PROMPTS)
    reward.update(smooth(6, 5)[:1], ["123456"])
    assert reward.compute().item() == pytest.approx(math.fsum([1, 2, 3, 4, 6]) / 5)


def dark(images: Tensor) -> Tensor:
    return -images.mean((1, 2, 3))


def test_plain_functions_stand_beside_rewards_and_no_other_thing_does() -> None:
    bright = Brightness()
    given = as_rewards({"bright": bright, "dark": dark, "long": lambda images, prompts: [*map(len, prompts)]})
    images = smooth(6, 5)
    assert given["bright"] is bright
    assert given["dark"].score(images, PROMPTS).tolist() == dark(images).tolist()
    assert given["long"].score(images, PROMPTS).tolist() == [*map(len, PROMPTS)]
    assert pickle.loads(pickle.dumps(given["dark"])).score(images, PROMPTS).tolist() == dark(images).tolist()
    assert FunctionReward(lambda image: float(image[0, 0, 0]), each=True).score(images, PROMPTS).shape == (4,)
    for wrong, message in (
        (Brightness, r"reward 'x' is the class Brightness: give an instance, Brightness\(...\)"),
        (MeanMetric(), r"reward 'x' is a metric: give rewards.MetricReward\(metric\)"),
        ("dark", "reward 'x' is a str: give a reward or a function of images"),
    ):
        with one_line(TypeError, message):
            as_rewards({"x": wrong})
