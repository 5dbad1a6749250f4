"""What a plan says against formulas, and against runs of the tiny models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

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
from tests.cli.test_main import MODEL
from tests.conftest import Channel, MixtureBackbone, make_module

STEPS, N = 6, 4
SAMPLERS: dict[str, Sampler] = {
    "base model": BaseModel(num_inference_steps=STEPS),
    "best of n": BestOfN(num_inference_steps=STEPS, pool=5),
    "weighted sum": WeightedSum(num_inference_steps=STEPS, candidates=N),
    "soup": SRSoup(num_inference_steps=STEPS, candidates=N, sharing=FixedSoup(0, 3)),
    "pooled": SRSoup(num_inference_steps=STEPS, candidates=N, sharing=Pooled()),
    "auto": SRSoup(num_inference_steps=STEPS, sharing=Auto()),
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
    if name not in ("auto", "best of n"):  # there, who is chosen depends on the pictures
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
    """Of a model that can't be loaded and rewards that can't be made."""
    rewards = {
        name: {"class_path": "rewards.CLIPScore", "init_args": {"model": "no-such/clip"}} for name in ("red", "blue")
    }
    settings = {"model": MODEL | {"pipeline": "no-such/pipeline", "rewards": rewards}}
    settings |= {"data": {"prompts": ["a", "b"]}, "trainer": {"default_root_dir": str(tmp_path / "run")}}
    path = tmp_path / "unloadable.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_the_command_loads_and_writes_nothing(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--config", str(config)]) == 0
    shown = capsys.readouterr().out
    assert "2 soups" in shown
    # 5 steps, N = 4, soup phase 0-20 takes them all: 4 queries of each reward a step.
    assert f"{4 * 5 * 2}" in shown
    assert not (config.parent / "run").exists()


def test_the_command_reckons_with_a_run_s_seconds(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = config.parent / "other"
    other.mkdir()
    row = '{"prompt": "a", "seed": 0, "queries": {"red": 1}, "nfe": 100, "decodes": 1, "seconds": 2.0, "device": "cpu"}'
    (other / "ledger.jsonl").write_text(row + "\n")
    assert main(["plan", "--config", str(config), "--like", str(other)]) == 0
    shown = capsys.readouterr().out
    nfe = count(
        SRSoup(num_inference_steps=5, candidates=4, sharing=FixedSoup()), Preferences.lattice(["r", "b"], 2)
    ).nfe
    assert f"20 ms a network evaluation, all else in it: {0.02 * nfe:.1f} s a soup" in shown


def test_devices_share_whole_soups(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = config.parent / "other"
    other.mkdir()
    (other / "ledger.jsonl").write_text('{"prompt": "a", "seed": 0, "nfe": 100, "seconds": 360000.0}\n')
    options = ["plan", "--config", str(config), "--like", str(other), "--data.prompts", "[a, b, c]"]
    nfe = count(
        SRSoup(num_inference_steps=5, candidates=4, sharing=FixedSoup()), Preferences.lattice(["r", "b"], 2)
    ).nfe
    assert main([*options, "--spread_over", "2"]) == 0  # an hour an evaluation, and the first device makes two soups
    assert f"{2 * nfe:,}.00 h the run on 2 devices, {4 * nfe:,} h in all" in capsys.readouterr().out
    assert main([*options, "--spread_over", "0"]) == 1
    assert "spread_over is 0: give at least 1 device" in capsys.readouterr().err


def test_a_run_without_soups_is_named(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--config", str(config), "--like", str(config.parent)]) == 1
    assert "no soups in" in capsys.readouterr().err


def test_a_probe_loads_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = SoupTrainer(logger=False, enable_checkpointing=False, enable_progress_bar=False)
    module = make_module({"red": Channel(0), "blue": Channel(2)})
    assert isinstance(module.backbone, MixtureBackbone)
    ledger = trainer.plan(module, PromptDataModule(["a lobster"]), probe_models=True)
    shown = capsys.readouterr().out
    assert "a query of red" in shown
    assert "MiB" in shown
    assert torch.tensor(list(ledger.queries.values())).sum() > 0
