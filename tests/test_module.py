from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch

from srsoup_lightning import Loading, Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.callbacks import SampleWriter, SoupProgress
from srsoup_lightning.oracle import RewardError
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.files import append_rows, write_atomically
from srsoup_lightning.samplers import BaseModel, BestOfN, Soup
from tests.conftest import Broken, Channel, MixtureBackbone, make_module, quiet_trainer
from tests.diffusion.drawing import sized


def predict(module: SRSoupModule, prompts: list[str], seeds: list[int], trainer: L.Trainer | None = None) -> list[Soup]:
    return (trainer or quiet_trainer()).predict(module, PromptDataModule(prompts, seeds))


def test_a_soup_comes_back_for_every_prompt_and_seed_and_depends_on_them_alone(module: SRSoupModule) -> None:
    moments: list[tuple[int, int]] = []
    module.step_callbacks.append(lambda moment: moments.append((moment.step, moment.steps)))
    soups = predict(module, ["a cat", "a dog"], [0, 1])
    assert moments == [(step, 6) for step in range(1, 7)] * 4
    assert [(soup.prompt, soup.seed) for soup in soups] == [("a cat", 0), ("a cat", 1), ("a dog", 0), ("a dog", 1)]
    assert soups[0].images.shape == (6, 3, 8, 8)
    assert soups[0].rewards.shape == soups[0].preferences.shape == (6, 2)
    torch.testing.assert_close(soups[0].rewards, soups[0].images.mean((2, 3))[:, [0, 2]])
    for _ in range(2):
        (alone,) = predict(module, ["a dog"], [1])
        assert torch.equal(alone.images, soups[-1].images)
    assert not module.state_dict()  # the rewards' weights stay out of it


def test_the_order_of_results_is_that_of_the_preferences() -> None:
    rewards = {"red": Channel(0), "blue": Channel(2)}
    swapped = Preferences(["blue", "red"], [[1, 0], [0, 1]])
    soup = predict(SRSoupModule(MixtureBackbone(), rewards, BaseModel(num_inference_steps=3), swapped), ["x"], [0])[0]
    assert soup.reward_names == ("blue", "red")
    torch.testing.assert_close(soup.rewards, soup.images.mean((2, 3))[:, [2, 0]])


def test_rewards_and_preferences_must_name_the_same_and_a_loaded_backbone_has_no_options_of_loading() -> None:
    with pytest.raises(ValueError, match=r"\['red'\].*\['blue', 'red'\]"):
        SRSoupModule(MixtureBackbone(), {"red": Channel(0)}, BaseModel(), Preferences.lattice(["red", "blue"], 2))
    one = Preferences(["red"], [[1]])
    with pytest.raises(ValueError, match="this Backbone is loaded already: leave out `loading`"):
        SRSoupModule(MixtureBackbone(), {"red": Channel(0)}, BaseModel(), one, loading=Loading(height=8))


@pytest.mark.parametrize(
    ("way", "message"),
    [("nan", "reward 'bad' returned nan at denoising step 1"), ("shape", r"returned \(4, 1\)"), ("raise", "StopIter")],
)
def test_a_failing_reward_ends_the_run_and_is_named(way: str, message: str) -> None:
    module = make_module({"red": Channel(0), "bad": Broken(way)})
    with pytest.raises(RewardError, match=message) as caught:
        predict(module, ["a cat"], [7])
    assert "prompt 'a cat', seed 7" in "".join(caught.value.__notes__)


def test_a_checkpoint_holds_what_is_trained_and_nothing_frozen(tmp_path: Path) -> None:
    module = make_module({"red": Channel(0), "blue": Channel(2)})
    module.backbone.base, module.backbone.adapter = torch.nn.Linear(4, 4).requires_grad_(False), torch.nn.Linear(4, 1)
    trainer = quiet_trainer()
    predict(module, ["a cat"], [0], trainer)
    module.train()
    assert not module.backbone.base.training
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    state = torch.load(tmp_path / "run.ckpt", weights_only=True)["state_dict"]
    assert set(state) == {"backbone.adapter.weight", "backbone.adapter.bias"}
    module.load_state_dict(state, strict=module.strict_loading)


def test_a_mixed_precision_reaches_the_networks_alone_and_one_for_all_tensors_is_refused() -> None:
    seen: dict[str, set[bool]] = {"network": set(), "reward": set()}

    class Watching(Channel):
        def score(self, images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
            seen["reward"].add(torch.is_autocast_enabled("cpu"))
            return super().score(images, prompts)

    def module_of() -> SRSoupModule:
        sampler, one = BestOfN(num_inference_steps=2, pool=2), Preferences(["red"], [[1.0]])
        return SRSoupModule(sized("SD"), {"red": Watching(0)}, sampler, one)

    module = module_of()
    module.backbone.network.register_forward_pre_hook(lambda *_: seen["network"].add(torch.is_autocast_enabled("cpu")))
    (soup,) = predict(module, ["a cat"], [0], quiet_trainer(precision="bf16-mixed"))
    assert seen == {"network": {True}, "reward": {False}}
    assert soup.images.dtype == soup.rewards.dtype == torch.float32
    for precision in ("bf16-true", "64-true"):
        with pytest.raises(ValueError, match=f"trainer.precision is '{precision}', which would change latents"):
            predict(module_of(), ["a cat"], [0], quiet_trainer(precision=precision))
    assert torch.get_default_dtype() == torch.float32


def test_rewards_have_any_name(tmp_path: Path) -> None:
    """PyTorch would refuse these as names of modules."""
    names = ["hps_v2.1", "type", "train", "forward"]
    module = make_module({name: Channel(number % 3) for number, name in enumerate(names)})
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[SampleWriter()])
    (soup,) = trainer.predict(module, PromptDataModule(["a snail"]))
    assert soup.reward_names == tuple(names)
    assert list(next(iter(RunDirectory(tmp_path).image_rows())).rewards) == names


@pytest.mark.parametrize("name", ["sampler", "preferences", "loading", "oracle", "soup_limits", "run_limits"])
def test_arguments_of_another_class_are_refused_by_name(module: SRSoupModule, name: str) -> None:
    given = {"sampler": module.sampler, "preferences": module.preferences}
    for wrong, message in (
        (Loading, f"{name} is the class Loading: give an instance"),
        ([1], rf"{name} is \[1\]: give"),
    ):
        with pytest.raises(TypeError, match=message):
            SRSoupModule(MixtureBackbone(), module.rewards, **given | {name: wrong})


def test_prompts_without_their_data_module_are_refused(module: SRSoupModule) -> None:
    with pytest.raises(TypeError, match=r"a batch is \['a snail'\]|a batch is 'a snail'") as caught:
        quiet_trainer().predict(module, ["a snail"])
    assert "PromptDataModule" in str(caught.value)


def test_a_remote_run_directory_and_a_second_bar_are_refused(module: SRSoupModule, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="s3://bucket/run is a remote folder"):
        RunDirectory("s3://bucket/run")
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[SoupProgress()], enable_progress_bar=True)
    with pytest.raises(ValueError, match="has a bar of its own"):
        trainer.predict(module, PromptDataModule(["a snail"]))


def test_a_group_can_share_a_run_directory_and_a_full_disk_names_the_file(
    module: SRSoupModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o002)
    try:
        trainer = quiet_trainer(default_root_dir=tmp_path / "run", callbacks=[SampleWriter()])
        trainer.predict(module, PromptDataModule(["a snail"]))
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in files if path.stat().st_mode & 0o777 != 0o664} == {}

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write in (partial(write_atomically, content=b"x"), partial(append_rows, rows=[{}])):
        with pytest.raises(OSError, match=r"No space left on device: '.*table\.jsonl'"):
            write(tmp_path / "table.jsonl")
