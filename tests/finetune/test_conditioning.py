"""Preference as an input of the adapter: how it is drawn, trained, saved and loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from srsoup_lightning import Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.adapters import PreferenceConditioned, RewardedSoup
from srsoup_lightning.adapters.policies import target_scores
from srsoup_lightning.callbacks import SampleWriter
from srsoup_lightning.data import SoupRequest
from srsoup_lightning.diffusion.loading.loras import add_loras
from srsoup_lightning.diffusion.loading.resident import add_adapters
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.finetune import (
    AWM,
    Conditioning,
    DenseDPO,
    LoRA,
    Matching,
    Objective,
    OnlineSearch,
    RewardsInContext,
    SoupDistillation,
)
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.samplers import BaseModel, SRSoup
from tests.conftest import Channel, quiet_trainer
from tests.diffusion.drawing import backbone_of, sized
from tests.diffusion.pipelines import make
from tests.finetune.fits import PROCESS, SMALL, Smooth, fit, make_fit, tracked, trainer_of

POINTS = [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
SEARCH = OnlineSearch(SRSoup(candidates=2))


def conditioned(objective: Objective | None = None, kind: str = "ranks", **options: object) -> SRSoupModule:
    return make_fit(objective, POINTS, conditioning=Conditioning(kind=kind, width=8), **options)


@pytest.mark.parametrize(("weighted", "corners"), [([True, True], 0.1), ([True, False, True, True], 0.5)])
def test_preferences_are_drawn_evenly_with_a_share_of_corners(weighted: list[bool], corners: float) -> None:
    source, mask = NoiseSource("a snail", 0, ()), torch.tensor(weighted)
    drawn = torch.stack([Conditioning().draw(mask, source, number) for number in range(4000)])
    torch.testing.assert_close(drawn.sum(1), torch.ones(4000))
    assert (drawn[:, ~mask] == 0).all()
    torch.testing.assert_close(drawn.mean(0), mask / mask.sum(), rtol=0, atol=0.03)
    torch.testing.assert_close((drawn.amax(1) == 1).float().mean(), torch.tensor(corners), rtol=0, atol=0.03)
    inside = drawn[(drawn[:, mask] > 0).all(1)][:, mask]
    # Variance of a weight that is evenly distributed on the simplex over M rewards: (M - 1) / (M^2 (M + 1)).
    count = int(mask.sum())
    expected = (count - 1) / (count**2 * (count + 1))
    torch.testing.assert_close(inside.var(0), torch.full((count,), expected), rtol=0.15, atol=0)


@pytest.mark.parametrize(
    ("objective", "kind"),
    [
        (tracked(), "embedding"),
        (Matching(**SMALL | {"eta": 0.0}, advantage="gdpo"), "embedding"),
        (Matching(**SMALL | {"eta": 0.0}, method=AWM()), "ranks"),
        (DenseDPO(**SMALL | {"group_size": 4, "train_batch": 6}), "ranks"),
        (SoupDistillation(**SMALL, searches=SEARCH, alpha=0.5), "ranks"),
    ],
)
def test_one_fit_serves_every_preference_and_its_adapter_is_loaded_again(
    objective: Objective, kind: str, tmp_path: Path
) -> None:
    module = fit(tmp_path, conditioned(objective, kind), rounds=2)
    facts = json.loads((tmp_path / "adapter" / "adapter.json").read_text())
    assert facts["conditioned"]
    assert facts["preference"] == {"red": 0.5, "blue": 0.5}
    assert module.backbone is not None
    trained = pictures(module)
    assert (trained[0] - trained[2]).abs().max() > 1e-4  # pictures differ between the preferences

    loaded = sized("SD")
    add_adapters(loaded, PreferenceConditioned(str(tmp_path / "adapter")))
    again = SRSoupModule(loaded, {"red": Smooth(0), "blue": Channel(2)}, BaseModel(**PROCESS), module.preferences)
    torch.testing.assert_close(pictures(again), trained, rtol=0, atol=1e-5)
    off = sized("SD")
    add_adapters(off, PreferenceConditioned(str(tmp_path / "adapter"), strength=0.0))
    base = SRSoupModule(sized("SD"), again.rewards, BaseModel(**PROCESS), module.preferences)
    other = Preferences(["red", "green"], [[0.5, 0.5]])
    unknown = SRSoupModule(loaded, {"red": Smooth(0), "green": Smooth(1)}, BaseModel(**PROCESS), other)
    with pytest.raises(ValueError, match=r"the preferences weigh \['green'\], and .* was trained for"):
        unknown.configure_model()
    without = SRSoupModule(off, again.rewards, BaseModel(**PROCESS), module.preferences)
    torch.testing.assert_close(pictures(without), pictures(base), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("objective", "ratio"),
    [(tracked(), "ratio/step_00"), (Matching(**SMALL | {"eta": 0.0}, method=AWM(), advantage="gdpo"), "ratio/mean")],
)
def test_in_hindsight_a_sample_is_compared_with_the_weights_that_drew_it_at_the_new_preference(
    objective: Objective, ratio: str, tmp_path: Path
) -> None:
    """So with one update a round, ratios are 1 although the model has learned to tell preferences apart."""
    module = fit(tmp_path, conditioned(objective, updates=1), rounds=3)
    assert (pictures(module)[0] - pictures(module)[2]).abs().max() > 1e-4
    assert float(module.trainer.callback_metrics[f"train/{ratio}"]) == pytest.approx(1, abs=1e-6)
    assert module.finetuning is not None
    module.finetuning.collect(["a cat"])
    rollout, everyone = module.finetuning.rollouts[0], slice(0, 3)
    drawn = [objective.preferences(rollout, everyone, index) for index in (0, 1)]
    assert (drawn[0] - drawn[1]).abs().min() > 0  # each pass and each sample have their own
    assert len(drawn[0].unique(dim=0)) == 3
    torch.testing.assert_close(objective.preferences(rollout, slice(1, 3), 0), drawn[0][1:], rtol=0, atol=0)
    found = objective.advantages(rollout, everyone, drawn[0])
    one_by_one = [objective.advantages(rollout, everyone, each.expand(3, 2))[row] for row, each in enumerate(drawn[0])]
    torch.testing.assert_close(found, torch.stack(one_by_one))
    assert replace(objective, hindsight=False).preferences(rollout, everyone, 0) is None


def pictures(module: SRSoupModule) -> Tensor:
    with torch.inference_mode():
        return module.predict_step(SoupRequest("a cat", 0)).images


def test_ranks_of_rewards_are_a_rewarded_soup_of_loras_that_were_trained_together(tmp_path: Path) -> None:
    """Each reward's ranks, saved as a LoRA of their own, are mixed by another policy to the same pictures."""
    lora = LoRA(rank=4, alpha=6, targets=("to_q", "conv1"))
    module = fit(tmp_path, conditioned(Matching(**SMALL | {"eta": 0.0}), lora=lora), rounds=2)
    file = "pytorch_lora_weights.safetensors"
    weights = load_file(tmp_path / "adapter" / file)
    gain = weights.pop("unet.preference_input.gain")
    soup = {}
    for reward, name in enumerate(("red", "blue")):
        rows = slice(2 * reward, 2 * reward + 2)
        own = {key: gain[reward] * each[:, rows] if "lora_B" in key else each[rows] for key, each in weights.items()}
        (tmp_path / name).mkdir()
        half = {"unet.r": 2, "unet.lora_alpha": 3, "unet.target_modules": list(lora.targets)}
        save_file(own, tmp_path / name / file, {"format": "pt", "lora_adapter_metadata": json.dumps(half)})
        soup[name] = str(tmp_path / name)
    mixed = sized("SD")
    add_adapters(mixed, RewardedSoup(soup))
    again = SRSoupModule(mixed, {"red": Smooth(0), "blue": Channel(2)}, BaseModel(**PROCESS), module.preferences)
    torch.testing.assert_close(pictures(again), pictures(module), rtol=0, atol=1e-5)


def test_a_resumed_fit_ends_at_the_same_bytes(tmp_path: Path) -> None:
    for folder, parts in (("once", [3]), ("twice", [1, 3])):
        for rounds in parts:
            fit(tmp_path / folder, conditioned(SoupDistillation(**SMALL, searches=SEARCH)), rounds=rounds)
    files = [tmp_path / folder / "adapter" / "pytorch_lora_weights.safetensors" for folder in ("once", "twice")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_preferences_aim_at_quantiles_of_scores() -> None:
    quantiles = torch.stack([torch.linspace(-2, 4, 5), torch.linspace(0, 1, 5)])
    weights = torch.tensor([[1.0, 0.0], [0.75, 0.25], [0.5, 0.5], [0.1, 0.9]])
    expected = torch.tensor([[4.0, 0.0], [4.0, 0.5], [4.0, 1.0], [-2 + 0.2 * 6, 1.0]])
    torch.testing.assert_close(target_scores(weights, quantiles), expected)


def test_rewards_in_context_learn_from_scored_pictures_alone(tmp_path: Path) -> None:
    run, names = tmp_path / "run", ["red", "blue"]
    base = SRSoupModule(sized("SD"), {"red": Smooth(0), "blue": Channel(2)}, BaseModel(**PROCESS), points())
    trainer = quiet_trainer(callbacks=[SampleWriter()], default_root_dir=run)
    trainer.predict(base, PromptDataModule(["a cat", "a dog"], [0, 1, 2]))
    objective = RewardsInContext(**SMALL, runs=(str(run),))
    with pytest.raises(ValueError, match="trains an adapter that has scores as inputs: give"):
        fit(tmp_path / "bad", make_fit(objective), rounds=1)
    drawing = Conditioning(corners=0.2)
    with pytest.raises(ValueError, match=r"conditioning has \{'corners': 0.2\}, and RewardsInContext trains"):
        fit(tmp_path / "bad", make_fit(objective, POINTS, conditioning=drawing), rounds=1)
    module = fit(tmp_path / "fit", conditioned(objective), rounds=2)
    assert module.finetuning is not None
    assert module.finetuning.costs.total_queries == 0
    scores = torch.tensor([[row.rewards[name] for name in names] for row in RunDirectory(run).image_rows()])
    standardised = (scores - scores.mean(0)) / scores.std(0, correction=0)
    loaded = sized("SD")
    add_adapters(loaded, PreferenceConditioned(str(tmp_path / "fit" / "adapter")))
    assert loaded.adapters is not None
    found = loaded.adapters.policy.evaluations(names, torch.tensor([[1.0, 0.0], [0.5, 0.5]]), 0.0).inputs
    expected = torch.stack([standardised.amax(0), standardised.amax(0)])
    expected[0, 1] = standardised[:, 1].amin()
    torch.testing.assert_close(found[:, 1:], expected, rtol=1e-3, atol=1e-3)
    again = SRSoupModule(loaded, base.rewards, BaseModel(**PROCESS), points())
    torch.testing.assert_close(pictures(again), pictures(module), rtol=0, atol=1e-5)


def points() -> Preferences:
    return Preferences(["red", "blue"], POINTS)


def test_others_refuse_a_conditioned_adapter_in_words(tmp_path: Path) -> None:
    fit(tmp_path, conditioned(), rounds=1)
    adapter = str(tmp_path / "adapter")
    with pytest.raises(ValueError, match="Invalid LoRA checkpoint"):  # plain diffusers
        make("SD").load_lora_weights(adapter)
    with pytest.raises(ValueError, match="takes a preference as its input: give it as"):
        add_loras(make("SD"), {adapter: 1.0})
    with pytest.raises(ValueError, match="takes a preference as its input"):
        add_adapters(backbone_of(make("SD")), RewardedSoup({"red": adapter}))
    fit(tmp_path / "plain", make_fit(), rounds=1)
    with pytest.raises(ValueError, match="takes no preference as its input"):
        add_adapters(backbone_of(make("SD")), PreferenceConditioned(str(tmp_path / "plain" / "adapter")))
    policy = PreferenceConditioned(adapter, rewards=("red", "blue"))
    with pytest.raises(ValueError, match=r"the preferences weigh \['green'\], and .* was trained for"):
        policy.check(["green"], torch.ones(1, 1), 1.0)


def test_bad_conditionings_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"corners is 0.8 and edges is 0.4: give shares whose sum is at most 1"):
        Conditioning(corners=0.8, edges=0.4)
    with pytest.raises(ValueError, match="width is 0: give at least 1"):
        Conditioning(width=0)
    with pytest.raises(ValueError, match="kind is 'time': choose one of ranks, embedding"):
        Conditioning(kind="time")
    with pytest.raises(ValueError, match="the LoRA has rank 1, and 2 rewards share its ranks"):
        trainer_of(tmp_path, 1).fit(conditioned(lora=LoRA(rank=1)), datamodule=PromptDataModule(["a cat"]))
    data = PromptDataModule(["a cat"])
    with pytest.raises(ValueError, match=r"\['red'\] alone has weight: give preferences between at least two rewards"):
        trainer_of(tmp_path, 1).fit(make_fit(conditioning=Conditioning()), datamodule=data)
    with pytest.raises(ValueError, match="3 preferences are given, and a fit tunes one adapter for one"):
        trainer_of(tmp_path, 1).fit(make_fit(None, POINTS), datamodule=data)
