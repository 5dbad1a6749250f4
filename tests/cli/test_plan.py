"""Counts of a plan against formulas, and against runs of the tiny models."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from srsoup_lightning import Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.cli.main import main
from srsoup_lightning.cli.plan import SoupTrainer
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.diffusion.loading.options import Loading
from srsoup_lightning.diffusion.loading.sizes import sizes_of
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.identity import RunIdentity, described
from srsoup_lightning.samplers import (
    AdaptiveAnchors,
    Auto,
    BaseModel,
    BestOfN,
    FixedSoup,
    Pooled,
    Resampling,
    Sampler,
    SRSoup,
    WeightedSum,
)
from srsoup_lightning.samplers.probe import Rates, probe
from srsoup_lightning.samplers.rehearsal import count
from tests.cli.test_main import write_config
from tests.conftest import Channel
from tests.report.runs import write_rows

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
    short = WeightedSum(num_inference_steps=1, candidates=N)  # without the model every step is searched
    assert count(short, Preferences.lattice(["a", "b"], 2)).total_queries == 2 * N


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_plan_with_the_model_s_transitions_is_what_the_run_costs(module: SRSoupModule, name: str) -> None:
    module.sampler = sampler = SAMPLERS[name]
    problem = module.problem("a lobster")
    ledger = sampler.run(problem, module.preferences, "a lobster", 0).ledger
    planned = count(sampler, module.preferences, model=problem.denoiser)
    assert planned.queries == ledger.queries
    assert planned.nfe == pytest.approx(ledger.nfe, rel=0.05)
    if name not in ("auto", "best of n"):  # their choices depend on the pictures
        assert (planned.nfe, planned.decodes) == (ledger.nfe, ledger.decodes)


def test_a_probe_times_all_and_some_counts_are_about(module: SRSoupModule, capsys: pytest.CaptureFixture[str]) -> None:
    data = PromptDataModule(["a lobster"], [0, 1])
    trainer = SoupTrainer(logger=False, enable_checkpointing=False, enable_progress_bar=False)
    ledger = trainer.plan(module, data, probe_models=True)
    assert sum(ledger.queries.values()) > 0
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("a query of red", "MiB"))
    assert "about" not in shown
    module.sampler = SRSoup(num_inference_steps=30, candidates=2, sharing=AdaptiveAnchors(0.99))
    trainer.plan(module, data)
    assert "about" in capsys.readouterr().out
    module.sampler = replace(module.sampler, sharing=Pooled(), resampling=Resampling())
    trainer.plan(module, data)
    assert "about" not in (shown := capsys.readouterr().out)
    assert "at most" in shown.split("network evaluations")[1].splitlines()[0]
    rates = probe(module.problem("a lobster"))
    assert set(rates.queries) == {"red", "blue"}
    assert all(each > 0 for each in (rates.evaluation, rates.decode, rates.peak, *rates.queries.values()))
    assert rates.gradient == 0 < probe(module.problem("a lobster"), gradients=True).gradient
    rates = Rates(evaluation=0.5, decode=2.0, queries={"a": 1.0, "b": 10.0}, peak=0)
    assert rates.seconds(Ledger(queries={"a": 3, "b": 2}, nfe=4, decodes=5)) == 0.5 * 4 + 2.0 * 5 + 3 + 20


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config of a pipeline that can't be loaded and rewards that can't be made."""
    unloadable = {"class_path": "rewards.CLIPScore", "init_args": {"model": "no-such/clip"}}
    return write_config(tmp_path, pipeline="no-such/pipeline", rewards=dict.fromkeys(("red", "blue"), unloadable))


def plan(config: Path, *options: str) -> int:
    return main(["plan", "--config", str(config), *options])


SOUP = SRSoup(num_inference_steps=5, candidates=N, sharing=FixedSoup(0, 20))  # as in the config
NFE = count(SOUP, Preferences.lattice(["r", "b"], 2)).nfe


def test_the_command_reckons_with_the_seconds_of_a_run_and_devices(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It loads and writes nothing."""
    assert plan(config) == 0
    shown = capsys.readouterr().out
    assert "2 soups" in shown
    # 5 steps, N = 4, soup phase 0-20 takes them all: 4 queries of each reward a step.
    assert f"{4 * 5 * 2}" in shown
    assert "files and memory of the pipeline are not known: pipeline 'no-such/pipeline' can't be downloaded" in shown
    # The first of two devices makes two of three soups, at an hour for each evaluation.
    spread = ("--data.prompts", "[a, b, c]", "--spread_over", "2")
    assert plan(config, "--seconds_per_evaluation", "3600", *spread) == 0
    shown = capsys.readouterr().out
    assert f"3.6e+06 ms a network evaluation, all else in it: {3_600 * NFE:,.1f} s a soup" in shown
    assert f"{2 * NFE:,}.00 h the run on 2 devices, {4 * NFE:,} h in all" in shown
    for options, message in (
        (("--spread_over", "0"), "spread_over is 0: give at least 1 device"),
        (("--seconds_per_evaluation", "0"), "seconds_per_evaluation is 0.0: give a number above 0"),
        (("--like", "a", "--seconds_per_evaluation", "1"), "like is 'a', and seconds_per_evaluation 1.0: leave out"),
        (("--like", "nowhere"), "no soups in"),
    ):
        assert plan(config, *options) == 2
        assert message in capsys.readouterr().err
    assert not (config.parent / "run").exists()


def test_the_seconds_of_a_run_count_for_the_same_pipeline_size_and_device(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the builtin model, whose run has one soup of 400 s and 100 evaluations."""
    small = write_config(tmp_path, pipeline="tiny-animals", loading={"height": 32, "width": 32})
    loading = Loading(height=32, width=32)
    module = SRSoupModule("tiny-animals", {"red": Channel(0)}, SOUP, Preferences.lattice(["red"], 1), loading=loading)
    run = RunDirectory(tmp_path / "earlier")
    run.root.mkdir()
    row = {"prompt": "a", "seed": 0, "queries": {"red": 1}, "nfe": 100, "seconds": 400, "device": "cpu"}
    write_rows(run.root / "ledger.jsonl", [row])
    like = ("--like", str(run.root))
    assert plan(small, *like) == 2
    assert "no run.json in" in capsys.readouterr().err
    facts = described({"model": module.describe_model()})
    for device, options, message in (
        ("cpu", (), None),
        ("cuda", (), "is not like this run (device was 'cuda', now 'cpu')"),
        ("cpu", ("--model.loading.height", "64"), "(loading.height was 32, now 64)"),
        ("cpu", ("--model.pipeline", "tiny-animals-flow"), "(weights was "),
    ):
        RunIdentity(facts=facts, parts=({"device": device},)).write(run.identity)
        assert plan(small, *like, *options) == 2 * (message is not None)
        shown = capsys.readouterr()
        if message is None:
            assert "at 4e+03 ms a network evaluation" in shown.out
            assert "files of the pipeline: 19.7 MB, 0.0 MB of them to be downloaded" in shown.out
        else:
            assert message in shown.err


def test_memory_follows_the_options_of_loading() -> None:
    """All weights in 16 bits, and one network at a time; each further picture takes as much again."""
    plain, more = (sizes_of("tiny-animals", Loading(dtype="bfloat16"), batch) for batch in (1, 3))
    assert 2 * (plain.memory - 2 * (7_624_468 + 1_499_127 + 688_640)) == more.memory - plain.memory > 0
    assert (
        2 * 7_624_468 <= sizes_of("tiny-animals", Loading(dtype="bfloat16", offload="model"), 1).memory < plain.memory
    )
    assert sizes_of("tiny-animals", Loading(preview_decoder="tiny-animals-preview"), 1).files > plain.files


def test_loras_that_stay_beside_the_network_count_in_files_and_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(**model: object) -> list[float]:
        assert plan(write_config(tmp_path, pipeline="tiny-animals", **model)) == 0
        return [float(size) for size in re.findall(r"([\d.]+) MB", capsys.readouterr().out)]

    for name in ("red", "blue"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pytorch_lora_weights.safetensors").write_bytes(bytes(3_000_000))
    sources = {name: str(tmp_path / name) for name in ("red", "blue")}
    adapters = {"class_path": "srsoup_lightning.adapters.RewardedSoup", "init_args": {"adapters": sources}}
    (files, _, memory), (more_files, _, more_memory) = shown(), shown(adapters=adapters)
    assert (more_files - files, more_memory - memory) == pytest.approx((6, 6), abs=0.11)
