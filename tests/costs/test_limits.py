"""Limits and budgets: never exceeded, used up as far as whole soups go, and nothing finished is lost by them."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rewards import Reward
from srsoup_lightning import Limits, Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.callbacks import RunSummary, SampleWriter
from srsoup_lightning.costs.account import Counts
from srsoup_lightning.costs.limits import LimitError, budget_of
from srsoup_lightning.data import SoupRequest
from srsoup_lightning.diffusion.process import LARGEST
from srsoup_lightning.oracle import OraclePolicy
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.spending import SharedCounts
from srsoup_lightning.samplers import FixedSoup, Sampler, Soup, SRSoup
from srsoup_lightning.samplers.rehearsal import rehearse
from tests.callbacks.test_callbacks import predict
from tests.cli.test_main import srsoup, write_config
from tests.conftest import Channel, MixtureBackbone, quiet_trainer
from tests.costs.test_account import RED, asked
from tests.runs.test_resume import contents

SAMPLER = SRSoup(num_inference_steps=6, candidates=4, sharing=FixedSoup(0, 3))
PREFERENCES = Preferences.lattice(["red", "blue"], 5)
COST, IMAGES = rehearse(
    SAMPLER, PREFERENCES, model=MixtureBackbone().bind("", num_inference_steps=6, guidance_scale=1, eta=1)
)


class Counted(Channel):
    def __init__(self, channel: int, silent: int = -1) -> None:
        super().__init__(channel)
        self.seen, self.calls, self.silent = 0, 0, silent

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        self.seen += len(images)
        self.calls += 1
        return super().score(images, prompts) * (torch.nan if self.calls == self.silent else 1.0)


def make(sampler: Sampler = SAMPLER, silent: int = -1, **options: object) -> SRSoupModule:
    rewards: dict[str, Reward] = {"red": Counted(0, silent), "blue": Counted(2)}
    return SRSoupModule(MixtureBackbone(), rewards, sampler, PREFERENCES, **options)


def finished(root: Path) -> int:
    """Soups in the directory, after a look that their rows and pictures belong together."""
    run = RunDirectory(root)
    soups = len(list(run.cost_rows()))
    assert len({row.image for row in run.image_rows()}) == len(PREFERENCES) * soups
    return soups


def counts(root: Path) -> Counts:
    return SharedCounts(RunDirectory(root).spending).read()


@pytest.mark.parametrize("short", [0, 1])
@pytest.mark.parametrize(
    ("options", "cost"),
    [
        (lambda most: {"run_limits": Limits(max_queries=most)}, COST.total_queries),
        (lambda most: {"run_limits": Limits(max_nfe=most)}, COST.nfe),
        (lambda most: {"oracle": OraclePolicy(budgets={"red": most})}, IMAGES[RED]),
    ],
    ids=["queries", "evaluations", "images"],
)
def test_as_many_soups_are_made_as_fit(tmp_path: Path, options, cost: int, short: int) -> None:
    module = make(**options(3 * cost - short))
    predict(module, tmp_path, [SampleWriter()], ["a cat", "a dog"])
    assert finished(tmp_path) == 3 - short
    assert module.rewards["red"].seen == IMAGES[RED] * (3 - short)
    (spent,) = module.account.spent().values()
    assert spent == cost * (3 - short)


@pytest.mark.parametrize(
    ("limits", "soups"),
    [
        *((Limits(max_queries=COST.total_queries - less), 2 - 2 * less) for less in (0, 1)),
        *((Limits(max_nfe=COST.nfe - less), 2 - 2 * less) for less in (0, 1)),
        (Limits(max_seconds=60), 2),
    ],
)
def test_a_soup_that_costs_its_limit_is_made_and_no_dearer_one_is_begun(limits: Limits, soups: int, tmp_path) -> None:
    module = make(soup_limits=limits)
    predict(module, tmp_path, [SampleWriter()], ["a cat"])
    assert (finished(tmp_path), module.rewards["red"].seen) == (soups, soups * IMAGES[RED])


ABANDONED = {
    "soup": {"soup_limits": Limits(max_queries=COST.total_queries)},
    "run": {"run_limits": Limits(max_queries=2 * COST.total_queries)},
    "budget": {"oracle": OraclePolicy(retries=1, budgets={"red": 2 * IMAGES[RED]})},
}


@pytest.mark.parametrize("options", ABANDONED.values(), ids=ABANDONED)
def test_a_soup_that_asks_again_may_be_abandoned_under_way_and_leaves_nothing(tmp_path: Path, options: dict) -> None:
    module = make(silent=9, **{"oracle": OraclePolicy(retries=1)} | options)
    predict(module, tmp_path, [SampleWriter()], ["a cat"])
    assert finished(tmp_path) == 1
    assert len(list(tmp_path.rglob("*.png"))) == len(PREFERENCES)
    assert IMAGES[RED] < module.rewards["red"].seen <= 2 * IMAGES[RED]
    assert "more were needed" in counts(tmp_path).reached


RUN_SECONDS = [(25, 0, 3), (60, 1, 6), (119, 1, 6), (120, 2, 12), (1000, 2, 12)]


@pytest.mark.parametrize(
    ("owner", "limit", "soups", "steps"), [*(("run", *row) for row in RUN_SECONDS), ("soup", 39, 0, 4)]
)
def test_time_is_limited_too(tmp_path: Path, monkeypatch, owner: str, limit: float, soups: int, steps: int) -> None:
    """A soup of six steps is abandoned when it is too late, or not begun if there is less left than others took."""
    module, times = make(**{f"{owner}_limits": Limits(max_seconds=limit)}), [0.0]
    module.step_callbacks.append(lambda moment: times.append(times[-1] + 10))  # seconds of a step
    monkeypatch.setattr("srsoup_lightning.costs.meter.perf_counter", lambda: times[-1])
    predict(module, tmp_path, [SampleWriter()], ["a cat"])
    assert (finished(tmp_path), len(times) - 1) == (soups, steps)
    if owner == "run":
        assert module.account.spent() == {"run_limits.max_seconds": 10 * steps}
        assert not any(counts(tmp_path).held.values())


def test_a_raised_limit_goes_on_to_what_would_have_been_without_one(tmp_path: Path) -> None:
    predict(make(), tmp_path / "one", [SampleWriter()], ["a cat", "a dog"])
    for soups in (1, 1.5, 3, 10):
        limits = Limits(max_queries=int(soups * COST.total_queries))
        predict(make(run_limits=limits), tmp_path / "many", [SampleWriter()], ["a cat", "a dog"])
        assert finished(tmp_path / "many") == min(int(soups), 4)
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_a_budget_counts_all_parts_of_a_run_and_a_new_run_has_a_new_one(tmp_path: Path) -> None:
    def go_on(prompts: list[str], budget: int | None = None, overwrite: bool = False) -> dict[str, float]:
        module = make(oracle=OraclePolicy(budgets={} if budget is None else {"red": budget}))
        predict(module, tmp_path, [SampleWriter(overwrite=overwrite)], prompts)
        return module.account.spent()

    go_on(["a cat"])
    go_on(["a cat", "a dog"], 3 * IMAGES[RED] + 1)  # a new budget counts the soups before it too
    assert finished(tmp_path) == 3
    go_on(["a cat", "a dog"])  # without a budget the count goes on
    assert go_on(["a cat", "a dog", "a cow"], 5 * IMAGES[RED] - 1)[RED] == 4 * IMAGES[RED]
    assert finished(tmp_path) == 4
    assert go_on(["a cat"], IMAGES[RED], overwrite=True) == {RED: IMAGES[RED]}
    assert finished(tmp_path) == 1


class Written(Channel):
    def __init__(self, channel: int, path: Path) -> None:
        super().__init__(channel)
        self.path = path

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        with self.path.open("ab", buffering=0) as asked:  # survives a kill
            asked.write(b"." * len(images))
        return super().score(images, prompts)


def test_a_run_that_is_killed_keeps_to_its_budget(tmp_path: Path) -> None:
    root, moments, kills, most = tmp_path / "killed", random.Random(0), 3, 10 * IMAGES[RED]

    def go_on() -> None:
        rewards: dict[str, Reward] = {"red": Written(0, tmp_path / "asked.red"), "blue": Channel(2)}
        oracle = OraclePolicy(budgets={"red": most})
        module = SRSoupModule(MixtureBackbone(), rewards, SAMPLER, PREFERENCES, oracle=oracle)
        predict(module, root, [SampleWriter()], [f"{number} cats" for number in range(8)])

    for kill in range(kills):
        child = os.fork()
        if child == 0:
            go_on()
            os._exit(0)
        time.sleep(moments.uniform(0.1, 0.4))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        spent = counts(root).spent.get(RED, 0)
        assert asked(tmp_path) <= spent <= asked(tmp_path) + LARGEST * (kill + 1)
    go_on()
    assert most - IMAGES[RED] < asked(tmp_path) + LARGEST * kills
    assert asked(tmp_path) <= most
    assert 10 - 2 * kills <= finished(root) <= 10


def test_a_soup_that_failed_is_paid_for_all_the_same(tmp_path: Path) -> None:
    module = make(silent=3, oracle=OraclePolicy(budgets={"red": 1000}))
    with pytest.raises(RuntimeError, match="returned nan"):
        predict(module, tmp_path, [SampleWriter()], ["a cat"])
    assert counts(tmp_path).spent[RED] == module.rewards["red"].seen > 0
    assert not any(counts(tmp_path).held.values())


def test_answers_from_memory_cost_nothing() -> None:
    module = make(oracle=OraclePolicy(cached=["red"], budgets={"red": 2 * IMAGES[RED]}))
    _, second = (module.predict_step(SoupRequest("a cat", 0)) for _ in range(2))
    assert second.ledger.queries["red"] == 0
    assert module.account.spent() == {RED: module.rewards["red"].seen} == {RED: IMAGES[RED]}


def test_rewards_in_threads_keep_to_a_budget_together(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Counted, "on_cpu", True)
    most = 2 * IMAGES[RED] - 3
    oracle = OraclePolicy(retries=1, budgets={"red": most, "blue": most})
    module = make(replace(SAMPLER, max_batch=3), silent=2, oracle=oracle)
    predict(module, tmp_path, [SampleWriter()], ["a cat"])
    assert finished(tmp_path) == 1
    for name, reward in module.rewards.items():
        assert module.account.spent()[budget_of(name)] == reward.seen <= most


def test_from_python_the_finished_soups_come_back_and_a_line_says_why(caplog: pytest.LogCaptureFixture) -> None:
    module = make(run_limits=Limits(max_nfe=2 * COST.nfe))
    soups = quiet_trainer().predict(module, PromptDataModule(["a cat"], [0, 1, 2]))
    assert [(type(soup), soup.seed) for soup in soups] == [(Soup, 0), (Soup, 1)]
    (line,) = [record.getMessage() for record in caplog.records if record.name == "srsoup_lightning.module"]
    assert line.startswith(f"run_limits.max_nfe is {2 * COST.nfe}: {2 * COST.nfe} are taken, and {COST.nfe} more were")
    with pytest.raises(LimitError, match=r"run_limits\.max_nfe"):
        make(run_limits=Limits(max_nfe=1)).predict_step(SoupRequest("a cat", 0))


def test_the_summary_says_what_was_spent_and_a_damaged_count_is_named(tmp_path: Path, capsys) -> None:
    predict(make(), tmp_path, [SampleWriter()], ["a cat"])
    spending = RunDirectory(tmp_path).spending
    assert not spending.exists()  # without limits nothing is counted
    module = make(run_limits=Limits(max_nfe=10**6), oracle=OraclePolicy(budgets={"red": 10**6}))
    predict(module, tmp_path, [SampleWriter(overwrite=True), RunSummary()], ["a cat"])
    expected = f"spent        {2 * COST.nfe} of 1,000,000 run_limits.max_nfe, {2 * IMAGES[RED]} of 1,000,000 {RED}"
    assert expected in capsys.readouterr().out
    for damage in ("{", '{"spend": {}}', "[]"):
        spending.write_text(damage)
        with pytest.raises(ValueError, match=r"spending\.json is damaged .*: delete it"):
            predict(make(run_limits=Limits(max_nfe=10**6)), tmp_path, [SampleWriter()], ["a cat"])


def test_bad_limits_are_refused() -> None:
    for name, value in product(["max_queries", "max_nfe", "max_seconds"], [0, -1, float("nan")]):
        with pytest.raises(ValueError, match=f"{name} is {value}: give a number above 0"):
            Limits(**{name: value})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Limits that leave room for two soups and a half."""
    limits = {"soup_limits": {"max_seconds": 60.0}, "run_limits": {"max_queries": 80}}
    return write_config(tmp_path, **limits, oracle={"budgets": {"red": 1000}})


SEEDS = ("--data.seeds", "[0, 1]")
LINE = (
    "srsoup: error: run_limits.max_queries is 80: 64 are taken, and 32 more were needed; 2 of 4 soups are finished and "
    "kept: raise it, and the same command goes on"
)


def test_a_reached_limit_has_a_line_and_an_exit_code_of_its_own(config: Path, capsys) -> None:
    assert srsoup(config, *SEEDS) == 3
    captured = capsys.readouterr()
    assert captured.err.strip().splitlines()[-1] == LINE
    assert "mean over 2 soups" in captured.out
    assert "64 of 80 run_limits.max_queries" in captured.out
    assert srsoup(config, *SEEDS, "--model.run_limits.max_queries", "128", "--model.soup_limits.max_seconds", "50") == 0
    assert len(list(RunDirectory(config.parent / "run").cost_rows())) == 4


def test_several_processes_end_together(config: Path) -> None:
    """One is refused while the other is at its last soup."""
    options = ["--trainer.devices", "2", "--trainer.strategy", "ddp_fork", "--model.run_limits.max_queries", "100"]
    child = os.fork()
    if child == 0:  # with all that is imported here, which takes a process of its own many seconds
        for stream in (1, 2):
            os.dup2(os.open(config.with_suffix(f".{stream}"), os.O_CREAT | os.O_WRONLY), stream)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        code = srsoup(config, *SEEDS, *options)
        sys.stdout.flush()
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    shown, errors = (config.with_suffix(f".{stream}").read_text() for stream in (1, 2))
    line = LINE.replace("is 80: 64", "is 100: 96").replace("2 of 4", "3 of 4")
    assert [found for found in errors.splitlines() if found.startswith("srsoup: error")] == [line]
    assert "mean over 3 soups" in shown
    run = RunDirectory(config.parent / "run")
    assert len(list(run.cost_rows())) == 3
    assert not list(run.root.glob("*.[0-9].jsonl"))
