from __future__ import annotations

import pytest
import torch

from srsoup_lightning import Loading, Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.oracle import RewardError
from srsoup_lightning.samplers import BaseModel, Soup
from tests.conftest import Broken, Channel, MixtureBackbone, make_module, quiet_trainer


def predict(module: SRSoupModule, prompts: list[str], seeds: list[int]) -> list[Soup]:
    return quiet_trainer().predict(module, PromptDataModule(prompts, seeds))


def test_a_soup_comes_back_for_every_prompt_and_seed(module: SRSoupModule) -> None:
    soups = predict(module, ["a cat", "a dog"], [0, 1])
    assert [(soup.prompt, soup.seed) for soup in soups] == [("a cat", 0), ("a cat", 1), ("a dog", 0), ("a dog", 1)]
    assert soups[0].images.shape == (6, 3, 8, 8)
    assert soups[0].rewards.shape == soups[0].preferences.shape == (6, 2)
    torch.testing.assert_close(soups[0].rewards, soups[0].images.mean((2, 3))[:, [0, 2]])


def test_a_soup_depends_on_its_prompt_and_seed_alone(module: SRSoupModule) -> None:
    (alone,) = predict(module, ["a dog"], [1])
    among = predict(module, ["a cat", "a dog"], [0, 1])[-1]
    assert torch.equal(alone.images, among.images)


def test_the_order_of_results_is_that_of_the_preferences() -> None:
    rewards = {"red": Channel(0), "blue": Channel(2)}
    swapped = Preferences(["blue", "red"], [[1, 0], [0, 1]])
    soup = predict(SRSoupModule(MixtureBackbone(), rewards, BaseModel(num_inference_steps=3), swapped), ["x"], [0])[0]
    assert soup.reward_names == ("blue", "red")
    torch.testing.assert_close(soup.rewards, soup.images.mean((2, 3))[:, [2, 0]])


def test_listeners_hear_every_step(module: SRSoupModule) -> None:
    heard: list[tuple[int, int]] = []
    module.step_callbacks.append(lambda moment: heard.append((moment.step, moment.steps)))
    predict(module, ["a cat"], [0])
    assert heard == [(step, 6) for step in range(1, 7)]


def test_rewards_and_preferences_must_name_the_same() -> None:
    with pytest.raises(ValueError, match=r"\['red'\].*\['blue', 'red'\]"):
        SRSoupModule(MixtureBackbone(), {"red": Channel(0)}, BaseModel(), Preferences.lattice(["red", "blue"], 2))


@pytest.mark.parametrize(
    ("way", "message"),
    [("nan", "reward 'bad' returned nan at denoising step 1"), ("shape", r"returned \(4, 1\)"), ("raise", "StopIter")],
)
def test_a_failing_reward_ends_the_run_and_is_named(way: str, message: str) -> None:
    module = make_module({"red": Channel(0), "bad": Broken(way)})
    with pytest.raises(RewardError, match=message) as caught:
        predict(module, ["a cat"], [7])
    assert "prompt 'a cat', seed 7" in "".join(caught.value.__notes__)


def test_two_trainings_of_one_module_share_its_backbone(module: SRSoupModule) -> None:
    first, second = (predict(module, ["a cat"], [0])[0] for _ in range(2))
    assert torch.equal(first.images, second.images)


def test_the_judges_weights_stay_out_of_the_modules_state(module: SRSoupModule) -> None:
    assert not module.state_dict()


def test_a_backbone_that_is_there_takes_no_word_on_its_loading() -> None:
    module = make_module({"red": Channel(0), "blue": Channel(2)})
    with pytest.raises(ValueError, match="this Backbone is loaded already: leave out `loading`"):
        SRSoupModule(
            MixtureBackbone(), dict(module.rewards), module.sampler, module.preferences, loading=Loading(height=8)
        )
