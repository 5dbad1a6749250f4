"""A run with a reward behind HTTP that fails now and then, or for good."""

from __future__ import annotations

import pytest
import torch
from tenacity import wait_none

import rewards.remote.client as http_judge
from rewards import HTTPReward, JPEGCompressibility, Reward
from srsoup_lightning import PromptDataModule
from srsoup_lightning.oracle import OraclePolicy, RewardError
from srsoup_lightning.samplers import Soup
from tests.conftest import make_module, quiet_trainer
from tests.rewards.judges import serving


class Moody(JPEGCompressibility):
    """JPEGCompressibility that fails on calls of its choice."""

    def __init__(self, every: int = 0, after: int = 10**9) -> None:
        super().__init__(workers=1)
        self.every, self.after, self.calls, self.seen = every, after, 0, 0

    def score(self, images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        self.calls += 1
        self.seen += len(images)
        if self.calls > self.after or (self.every and self.calls % self.every == 0):
            raise RuntimeError("not now")
        return super().score(images, prompts)


class Rounded(Reward):
    """The same reward in this process."""

    def score(self, images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        return JPEGCompressibility(workers=1).score(images, prompts)


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_judge, "_jitter", wait_none())


def predict(reward: Reward) -> Soup:
    module = make_module({"size": reward, "again": Rounded()})
    (soup,) = quiet_trainer().predict(module, PromptDataModule(prompts=["a lobster"], seeds=[0]))
    return soup


def test_a_run_survives_failures_and_its_result_is_the_same() -> None:
    judge = Moody(every=3)
    with serving({"jpeg": judge}) as url:
        soup = predict(HTTPReward(url, "jpeg", batch_size=4, retries=5))
    expected = predict(Rounded())
    assert judge.calls > 10
    torch.testing.assert_close(soup.images, expected.images, rtol=0, atol=0)
    torch.testing.assert_close(soup.rewards, expected.rewards, rtol=0, atol=0)
    assert soup.ledger.queries == expected.ledger.queries


def test_a_judge_that_fails_for_good_ends_the_run_by_its_name() -> None:
    with serving({"jpeg": Moody(after=2)}) as url, pytest.raises(RewardError) as caught:
        predict(HTTPReward(url, "jpeg", retries=1))
    assert "reward 'size' failed at denoising step" in str(caught.value)
    assert f"judge {url} answered 500 Internal Server Error (the reward failed (RuntimeError)" in str(caught.value)


def test_what_is_sent_again_counts_against_a_budget() -> None:
    """The judge sees as many pictures as its budget allows at most, those of failed attempts too."""
    judge, most = Moody(every=3), 90
    with serving({"jpeg": judge}) as url:
        rewards = {"size": HTTPReward(url, "jpeg", batch_size=4, retries=5), "again": Rounded()}
        limited = make_module(rewards, oracle=OraclePolicy(budgets={"size": most}))
        soups = quiet_trainer().predict(limited, PromptDataModule(prompts=["a lobster"], seeds=[0, 1, 2, 3]))
    assert len(soups) == 1
    assert judge.seen == limited.account.spent()["oracle.budgets.size"] <= most
    assert judge.seen > soups[0].ledger.queries["size"] + len(soups[0].images)


def test_a_judge_that_is_not_there_is_found_before_the_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make_module({"size": HTTPReward("http://127.0.0.1:1", "jpeg", retries=0), "again": Rounded()})
    monkeypatch.setattr(module, "backbone", None)
    monkeypatch.setattr(module, "_load", lambda: pytest.fail("loaded"), raising=False)
    with pytest.raises(RewardError, match=r"reward 'size' can't be asked: judge http://127.0.0.1:1 .*: start it"):
        module.setup("predict")
