"""Validations of a fit beside the base model: every number again from the pictures themselves."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from srsoup_lightning import Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.callbacks import over_optimisation
from srsoup_lightning.callbacks.compared import Compared, ScoredPicture, measures_of, worst_held_out
from srsoup_lightning.callbacks.over_optimisation import OverOptimisation, write_row
from srsoup_lightning.finetune import PolicyGradient, Training
from srsoup_lightning.finetune.divergence import divergence_from_base
from srsoup_lightning.problem import Problem
from srsoup_lightning.runs.files import read_rows
from srsoup_lightning.runs.naming import prompt_slug
from srsoup_lightning.samplers import BaseModel, Soup
from tests.conftest import Channel, quiet_trainer
from tests.diffusion.drawing import sized
from tests.mixture import GaussianMixture
from tests.samplers.toys import normal, oracle

PROMPTS, SEEDS, ROUNDS, FEATURES = ["a cat", "a dog"], [3, 1], 3, "thumbnails"
REQUESTS = [(prompt, seed) for prompt in PROMPTS for seed in SEEDS]
SAMPLER, PREFERENCES = BaseModel(num_inference_steps=3), Preferences(["red", "blue"], [[1.0, 0.0]])
REWARDS = {"red": Channel(0), "blue": Channel(2)}


class Kept(L.Callback):
    """Pictures of the tuned model, by round."""

    def __init__(self) -> None:
        self.rounds: list[list[Soup]] = []

    def on_validation_epoch_start(self, trainer, pl_module) -> None:
        self.rounds.append([])

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.rounds[-1].append(outputs)


class Fitted(NamedTuple):
    rows: list[dict[str, object]]
    events: EventAccumulator
    tuned: list[list[Soup]]
    base: list[Soup]

    def scalars(self, tag: str) -> list[float]:
        return [event.value for event in self.events.Scalars(f"validation/{tag}")]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    root, kept = tmp_path_factory.mktemp("fit"), Kept()
    objective = PolicyGradient(num_inference_steps=3, groups=1, group_size=2)
    training = Training(objective=objective, optimizer=lambda weights: torch.optim.SGD(weights, lr=1e3))
    module = SRSoupModule(sized("SD"), REWARDS, SAMPLER, PREFERENCES, training=training)
    callbacks = [kept, OverOptimisation(sheets=1)]
    logger = TensorBoardLogger(root, "tensorboard", "")
    trainer = quiet_trainer(max_epochs=ROUNDS, logger=logger, default_root_dir=root, callbacks=callbacks)
    trainer.fit(module, datamodule=PromptDataModule(PROMPTS, [0], PROMPTS, SEEDS))
    plain = SRSoupModule(sized("SD"), REWARDS, SAMPLER, PREFERENCES)
    base = [SAMPLER.run(plain.problem(prompt), PREFERENCES, prompt, seed) for prompt, seed in REQUESTS]
    events = EventAccumulator(str(root / "tensorboard")).Reload()
    return Fitted([row for _, row in read_rows(root / "validation.jsonl")], events, kept.rounds[-ROUNDS:], base)


def distance(first: Soup, second: Soup) -> Tensor:
    return (first.images - second.images).square().mean().sqrt()


def test_a_validation_is_compared_with_pictures_of_a_model_without_adapter(fitted: Fitted) -> None:
    before = torch.cat([soup.rewards for soup in fitted.base])
    assert [row["round"] for row in fitted.rows] == [1, 2, 3]  # and none of Lightning's check before the training
    for row, tuned in zip(fitted.rows, fitted.tuned, strict=True):
        after = torch.cat([soup.rewards for soup in tuned])
        gain = (after.mean(0) - before.mean(0)) / before.std(0)
        apart = [distance(*pair) for pair in zip(tuned, fitted.base, strict=True)]
        expected = {
            "base": dict(zip(("red", "blue"), before.mean(0).tolist(), strict=True)),
            "gains": dict(zip(("red", "blue"), gain.tolist(), strict=True)),
            "distance_to_base": float(torch.stack(apart).mean()),
            "diversity": float((distance(*tuned[:2]) + distance(*tuned[2:])) / 2),
            "base_diversity": float((distance(*fitted.base[:2]) + distance(*fitted.base[2:])) / 2),
        }
        for name, value in expected.items():
            assert row[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
        assert row["pictures"] == 4
        drawn = 4 * 2 if row["round"] == 1 else 4  # the base model's pictures once, and a trajectory for the divergence
        assert row["validation_nfe"] == 2 * (drawn * 3 + 4 * 2 * 3)
        assert row["validation_seconds"] > 0
        assert row["kl"] > 0
    assert fitted.rows[0]["distance_to_base"] > 1e-3
    assert len({row["kl"] for row in fitted.rows}) == ROUNDS


def test_the_charts_show_the_rows_and_a_sheet_has_the_base_model_above(fitted: Fitted) -> None:
    rows, last = fitted.rows, fitted.tuned[-1]
    for tag, name in (("kl", "kl"), (f"distance_to_base/{FEATURES}", "distance_to_base")):
        assert fitted.scalars(tag) == pytest.approx([row[name] for row in rows])
    assert fitted.scalars("gain/blue") == pytest.approx([row["gains"]["blue"] for row in rows])
    assert fitted.scalars("blue") == pytest.approx([row["rewards"]["blue"] for row in rows])  # the module logs these
    assert fitted.scalars("base/red") == pytest.approx([rows[0]["base"]["red"]] * len(rows))
    assert fitted.scalars(f"base/diversity/{FEATURES}") == pytest.approx([rows[0]["base_diversity"]] * len(rows))
    (tag,) = fitted.events.Tags()["images"]
    assert tag == f"validation/sheet/{prompt_slug('a cat')[:14]}"  # 8 digits of the hash
    events = fitted.events.Images(tag)
    assert [event.step for event in events] == [row["step"] for row in rows]
    sheet = Image.open(io.BytesIO(events[-1].encoded_image_string)).convert("RGB")
    height = sheet.height
    for soups, area in ((fitted.base, (0, 0, sheet.width, height // 2)), (last, (0, height // 2, sheet.width, height))):
        shown = {colour for _, colour in sheet.crop(area).getcolors(1 << 20)}
        for soup in soups[:2]:
            corner = (soup.images[0, :, 0, 0] * 255).round().int().tolist()
            assert any(max(abs(a - b) for a, b in zip(color, corner, strict=True)) <= 1 for color in shown)


def shifted(offset: float, eta: float) -> tuple[Problem, SimpleNamespace, Tensor]:
    """A Gaussian whose base model has its centre elsewhere, and how far the clean predictions are apart, by step."""
    tuned = GaussianMixture(normal(1, 3, 4, 4), 0.5)
    base = GaussianMixture(tuned.centres + offset * normal(1, 3, 4, 4, seed=1), 0.5)
    problem = Problem(tuned.bind(5, eta), oracle({"a": lambda images: images.mean((1, 2, 3))}), 8)
    own, other = problem.denoiser, base.bind(5, eta)

    @contextmanager
    def reference() -> Iterator[None]:
        problem.denoiser = other
        yield
        problem.denoiser = own

    return problem, SimpleNamespace(reference=reference), base.centres - tuned.centres


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_divergence_of_two_gaussians_is_known(eta: float) -> None:
    problem, policy, apart = shifted(0.3, eta)
    kernel, expected = problem.kernel, 0.0
    for step in range(kernel.steps):
        alpha, following, sigma = kernel.alphas[step], kernel.alphas[step + 1], kernel.sigma(step)
        if sigma:
            clean = (1 - alpha) / (alpha * 0.5**2 + 1 - alpha)  # share of a centre in the posterior mean
            mean = clean * (following**0.5 - ((1 - following - sigma**2) * alpha / (1 - alpha)) ** 0.5)
            expected += mean**2 * float(apart.square().mean()) / (2 * sigma**2)
    assert divergence_from_base(problem, policy, 7) == pytest.approx(expected, rel=1e-4)
    assert problem.ledger.nfe == 5 + sum(kernel.sigma(step) > 0 for step in range(5))


def test_divergence_is_zero_of_equal_models_and_undefined_without_noise() -> None:
    assert divergence_from_base(*shifted(0.0, 1.0)[:2], 7) == 0
    assert divergence_from_base(*shifted(0.3, 0.0)[:2], 7) is None


def compared(number: int, base: list[float], tuned: list[float], prompt: str = "a cat") -> Compared:
    picture = Image.new("RGB", (4, 4))
    scored = [ScoredPicture(torch.tensor(rewards), torch.tensor(rewards), picture) for rewards in (base, tuned)]
    return Compared(number, prompt, number, *scored, None, "red", torch.tensor([1.0, 0.0]))


def test_measures_that_need_more_pictures_are_left_out() -> None:
    alone = measures_of([compared(0, [1.0, 0.0], [2.0, 0.0])], ["red", "blue"])
    assert (alone.gains, alone.diversity, alone.kl, alone.distance_to_base) == ({}, None, None, 1)
    two = [compared(0, [1.0, 5.0], [2.0, 6.0]), compared(1, [3.0, 5.0], [4.0, 6.0])]
    both = measures_of(two, ["red", "blue"])
    assert (both.gains, both.value) == ({"red": pytest.approx(0.5**0.5)}, pytest.approx(0.5**0.5))  # blue is the same
    second = two[1]._replace(preference="both", weights=torch.tensor([0.5, 0.5]))
    mixed = [two[0], second]
    assert measures_of(mixed, ["red", "blue"]).value == pytest.approx(0.75 * 0.5**0.5)
    assert measures_of(mixed, ["red", "blue"]).diversity is None  # no preference has two seeds


@pytest.mark.parametrize(
    ("value", "gains", "expected"),
    [
        (0.25, {"red": 0.5, "blue": -1.2, "green": -3.0}, "green"),
        (0.25, {"red": 0.5, "blue": -0.9, "green": -0.9}, None),
        (-0.25, {"red": -0.5, "blue": -3.0, "green": 0.0}, None),
        (0.05, {"red": 0.5, "sum": -2.0}, None),  # trained, though it falls
        (0.0, {}, None),
    ],
)
def test_over_optimisation_is_a_target_that_rises_while_a_held_out_reward_falls(
    value: float, gains: dict[str, float], expected: str | None
) -> None:
    measures = measures_of([compared(0, [1.0, 0.0], [2.0, 0.0])], ["red", "blue"])
    assert worst_held_out(measures._replace(value=value, gains=gains), {"red", "sum"}) == expected


def test_the_warning_comes_once(caplog: pytest.LogCaptureFixture) -> None:
    one = [compared(0, [1.0, 5.0], [2.0, 5.0]), compared(1, [3.0, 6.0], [4.0, 4.0])]
    preferences = Preferences(["red", "blue"], [[1.0, 0.0]])
    fit, callback = SimpleNamespace(round=7, module=SimpleNamespace(preferences=preferences)), OverOptimisation()
    with caplog.at_level(logging.WARNING, over_optimisation.__name__):
        for _ in range(2):
            callback._warn(measures_of(one, ["red", "blue"]), fit)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "in round 7 the target has risen by 0.7" in warning
    assert "blue, which is held out, has fallen by 1.4" in warning


def test_rows_that_are_made_again_and_a_torn_one_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "validation.jsonl"
    for step in (2, 4, 6):
        write_row(path, {"step": step, "part": 1})
    write_row(path, {"step": 4, "part": 2})
    path.open("a").write('{"step": 6, "pa')
    write_row(path, {"step": 6, "part": 2})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 2, "part": 1},
        {"step": 4, "part": 2},
        {"step": 6, "part": 2},
    ]


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="sheets is -1: give 0 or more"):
        OverOptimisation(sheets=-1)
    data = PromptDataModule(["a cat"], validation_prompts=["a pig", "a dog"])
    data.trainer = SimpleNamespace(world_size=3, global_rank=0)
    with pytest.raises(ValueError, match="2 pictures for 3 processes: give at least as many"):
        data.val_dataloader()
