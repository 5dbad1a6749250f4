"""Counts of a plan against formulas, and against runs of the tiny models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from srsoup_lightning import Preferences, PromptDataModule
from srsoup_lightning.cli.main import main
from srsoup_lightning.cli.plan import SoupTrainer
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.samplers import (
    AdaptiveAnchors,
    Auto,
    BaseModel,
    BestOfN,
    FixedSoup,
    Pooled,
    Sampler,
    SRSoup,
    WeightedSum,
)
from srsoup_lightning.samplers.rehearsal import Rates, count, probe
from tests.cli.test_main import write_config
from tests.conftest import Channel, MixtureBackbone, make_module

STEPS, N = 6, 4
SAMPLERS: dict[str, Sampler] = {
    "base model": BaseModel(num_inference_steps=STEPS),
    "best of n": BestOfN(num_inference_steps=STEPS, pool=5),
    "weighted sum": WeightedSum(num_inference_steps=STEPS, candidates=N),
    "soup": SRSoup(num_inference_steps=STEPS, candidates=N, sharing=FixedSoup(0, 3)),
    "pooled": SRSoup(num_inference_steps=STEPS, candidates=N, sharing=Pooled()),
    "auto": Auto(num_inference_steps=STEPS),
}


@pytest.mark.parametrize(("rewards", "divisions"), [(1, 1), (2, 5), (3, 3)])
def test_queries_are_those_of_the_published_formula(rewards: int, divisions: int) -> None:
    """All trajectories of the first step stand at one point, and each reward is asked about it once."""
    names = [f"r{j}" for j in range(rewards)]
    preferences = Preferences.lattice(names, divisions)
    columns = sum(int((weights > 0).sum()) for weights in preferences.weights)
    soup_steps = 3
    soup = count(SRSoup(num_inference_steps=STEPS, candidates=N, sharing=FixedSoup(0, soup_steps)), preferences)
    assert soup.total_queries == N * (rewards * soup_steps + columns * (STEPS - soup_steps))
    plain = count(WeightedSum(num_inference_steps=STEPS, candidates=N), preferences)
    assert plain.total_queries == N * (rewards + columns * (STEPS - 1))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_plan_with_the_model_s_transitions_is_what_the_run_costs(name: str) -> None:
    sampler = SAMPLERS[name]
    module = make_module({"red": Channel(0), "blue": Channel(2)})
    module.sampler = sampler
    problem = module.problem("a lobster")
    ledger = sampler.run(problem, module.preferences, "a lobster", 0).ledger
    planned = count(sampler, module.preferences, model=problem.denoiser)
    assert planned.queries == ledger.queries
    assert planned.nfe == pytest.approx(ledger.nfe, rel=0.05)
    if name not in ("auto", "best of n"):  # their choices depend on the pictures
        assert (planned.nfe, planned.decodes) == (ledger.nfe, ledger.decodes)


def test_without_the_model_every_step_is_searched() -> None:
    preferences = Preferences.lattice(["a", "b"], 2)
    sampler = WeightedSum(num_inference_steps=1, candidates=N)
    assert count(sampler, preferences).total_queries == 2 * N


def test_counts_that_depend_on_pictures_are_about(capsys: pytest.CaptureFixture[str]) -> None:
    data = PromptDataModule(["a lobster"], [0, 1])
    trainer = SoupTrainer(logger=False, enable_checkpointing=False, enable_progress_bar=False)
    module = make_module({"red": Channel(0), "blue": Channel(2)})
    trainer.plan(module, data)
    assert "about" not in capsys.readouterr().out
    module.sampler = SRSoup(num_inference_steps=30, candidates=2, sharing=AdaptiveAnchors(0.99))
    trainer.plan(module, data)
    assert "about" in capsys.readouterr().out


def test_rates_add_up() -> None:
    rates = Rates(evaluation=0.5, decode=2.0, queries={"a": 1.0, "b": 10.0}, peak=0)
    assert rates.seconds(Ledger(queries={"a": 3, "b": 2}, nfe=4, decodes=5)) == 0.5 * 4 + 2.0 * 5 + 3 + 20


def test_a_probe_times_every_part() -> None:
    module = make_module({"red": Channel(0), "blue": Channel(2)})
    rates = probe(module.problem("a lobster"))
    assert set(rates.queries) == {"red", "blue"}
    assert all(each > 0 for each in (rates.evaluation, rates.decode, rates.peak, *rates.queries.values()))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config of a pipeline that can't be loaded and rewards that can't be made."""
    unloadable = {"class_path": "rewards.CLIPScore", "init_args": {"model": "no-such/clip"}}
    return write_config(tmp_path, pipeline="no-such/pipeline", rewards=dict.fromkeys(("red", "blue"), unloadable))


def plan(config: Path, *options: str) -> int:
    return main(["plan", "--config", str(config), *options])


def earlier(folder: Path, seconds: float) -> str:
    """The directory of a run whose hundred network evaluations took some seconds."""
    (folder / "earlier").mkdir()
    row = {"prompt": "a", "seed": 0, "queries": {"red": 1}, "nfe": 100, "seconds": seconds, "device": "cpu"}
    (folder / "earlier" / "ledger.jsonl").write_text(json.dumps(row) + "\n")
    return str(folder / "earlier")


SOUP = SRSoup(num_inference_steps=5, candidates=N, sharing=FixedSoup(0, 20))  # as in the config
NFE = count(SOUP, Preferences.lattice(["r", "b"], 2)).nfe


def test_the_command_loads_and_writes_nothing(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(config) == 0
    shown = capsys.readouterr().out
    assert "2 soups" in shown
    # 5 steps, N = 4, soup phase 0-20 takes them all: 4 queries of each reward a step.
    assert f"{4 * 5 * 2}" in shown
    assert not (config.parent / "run").exists()


def test_the_command_reckons_with_a_run_s_seconds_and_devices_share_whole_soups(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hour = earlier(config.parent, 360_000)  # an evaluation, and the first of two devices makes two of three soups
    assert plan(config, "--like", hour, "--data.prompts", "[a, b, c]", "--spread_over", "2") == 0
    shown = capsys.readouterr().out
    assert f"3.6e+06 ms a network evaluation, all else in it: {3_600 * NFE:,.1f} s a soup" in shown
    assert f"{2 * NFE:,}.00 h the run on 2 devices, {4 * NFE:,} h in all" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--spread_over", "0"], "spread_over is 0: give at least 1 device"), (["--like", "nowhere"], "no soups in")],
)
def test_misuse_is_named(config: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    assert plan(config, *options) == 1
    assert message in capsys.readouterr().err


def test_a_probe_loads_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = SoupTrainer(logger=False, enable_checkpointing=False, enable_progress_bar=False)
    module = make_module({"red": Channel(0), "blue": Channel(2)})
    assert isinstance(module.backbone, MixtureBackbone)
    ledger = trainer.plan(module, PromptDataModule(["a lobster"]), probe_models=True)
    shown = capsys.readouterr().out
    assert "a query of red" in shown
    assert "MiB" in shown
    assert torch.tensor(list(ledger.queries.values())).sum() > 0
