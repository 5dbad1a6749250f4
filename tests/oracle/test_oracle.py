"""Rewards that fail, and rewards that are never asked twice: no score is invented, lost or miscounted."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from unittest.mock import Mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.costs.limits import LimitError
from srsoup_lightning.costs.meter import Meter
from srsoup_lightning.oracle import OraclePolicy, RewardError, RewardOracle
from srsoup_lightning.oracle.policy import with_worst
from srsoup_lightning.oracle.wrappers import Question, retrying, within
from srsoup_lightning.samplers import BaseModel, BestOfN, Problem, WeightedSum
from tests.samplers.toys import Scorer, Tally, bind, lattice, linears, oracle, run

STEPS = 4
SAMPLER = WeightedSum(num_inference_steps=STEPS, candidates=5)


def pictures(levels: list[float]) -> Tensor:
    return torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, 3, 2, 2).clone()


def level(images: Tensor, prompts: list[str]) -> Tensor:
    return images.mean((1, 2, 3))


def oracle_of(reward: Callable, *failing: str, **options: object) -> RewardOracle:
    return RewardOracle({"a": Scorer(reward)}, OraclePolicy(*failing, **options))


def question(images: Tensor, meter: Meter | None = None, prompts: list[str] | None = None) -> Question:
    return Question(images, prompts or ["x"] * len(images), "now", meter or Meter(Ledger.of(["a"])))


def asked(reward: Callable, levels: list[float], **options: object) -> tuple[Tensor, Ledger]:
    meter = Meter(Ledger.of(["a"]))
    return oracle_of(reward, **options).score("a", question(pictures(levels), meter)), meter.ledger


class Flaky:
    def __init__(self, failures: int, way: Callable[[Tensor], Tensor]) -> None:
        self.failures, self.way, self.seen = failures, way, 0

    def __call__(self, images: Tensor, prompts: list[str]) -> Tensor:
        self.seen += len(images)
        self.failures -= 1
        return self.way(level(images, prompts)) if self.failures >= 0 else level(images, prompts)


raising = Mock(side_effect=ConnectionError("gone"))
WAYS = {
    "nan": lambda scores: scores * torch.nan,
    "infinity": lambda scores: scores - torch.inf,
    "column": lambda scores: scores[:, None],
    "nothing": lambda scores: None,
    "exception": raising,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("failing", ["raise", "worst"])
def test_asking_again_until_it_works_as_often_as_retries_allow(way: Callable, failing: str) -> None:
    reward = Flaky(2, way)
    scores, ledger = asked(reward, [0.1, 0.7], failing=failing, retries=2)
    torch.testing.assert_close(scores, torch.tensor([0.1, 0.7]))
    assert ledger.queries["a"] == reward.seen == 6
    assert ledger.failures["a"] == 0
    if failing == "raise":
        with pytest.raises(RewardError, match="reward 'a' "):
            asked(Flaky(3, way), [0.1, 0.7], retries=2)


def test_what_ends_the_run_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RewardError, match=r"reward 'a' failed now: ConnectionError: gone$"):
        asked(Flaky(9, raising), [0.1, 0.7], retries=1)
    assert [record.message for record in caplog.records] == ["reward 'a' failed now: ConnectionError: gone"]


def test_only_the_pictures_without_a_score_are_asked_about_again() -> None:
    def dim(images: Tensor, prompts: list[str]) -> Tensor:
        seen.append(len(images))
        scores = level(images, prompts)
        return torch.where(scores > 0.5, torch.nan, scores) if len(seen) == 1 else scores

    seen: list[int] = []
    scores, ledger = asked(dim, [0.1, 0.7, 0.3, 0.9], retries=1)
    torch.testing.assert_close(scores, torch.tensor([0.1, 0.7, 0.3, 0.9]))
    assert seen == [4, 2]
    assert ledger.queries["a"] == 6


def test_one_picture_that_spoils_a_batch_is_found() -> None:
    def fussy(images: Tensor, prompts: list[str]) -> Tensor:
        if (images > 0.8).any():
            raise ValueError("too bright")
        return level(images, prompts)

    scores, ledger = asked(fussy, [0.1, 0.9, 0.3], failing="worst")
    torch.testing.assert_close(scores, torch.tensor([0.1, torch.nan, 0.3]), equal_nan=True)
    assert (ledger.queries["a"], ledger.failures["a"]) == (6, 1)


@given(st.lists(st.one_of(st.none(), st.floats(-5, 5, width=32)), min_size=1, max_size=12))
def test_the_worst_stands_for_what_is_missing_and_nothing_else_moves(values: list[float | None]) -> None:
    scores = torch.tensor([torch.nan if value is None else value for value in values])
    known = [value for value in values if value is not None]
    if not known:
        with pytest.raises(RewardError, match="failed on all"):
            with_worst(scores, "a", "now")
        return
    complete = with_worst(scores, "a", "now").tolist()
    assert complete == [min(known) if value is None else value for value in values]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.integers(0, 3))
def test_a_score_is_found_if_and_only_if_retries_reach_it(failures: list[int], retries: int) -> None:
    left = torch.tensor(failures)

    def ask(about: Question) -> Tensor:
        indices = about.images[:, 0, 0, 0].long()
        ready = left[indices] == 0
        left[indices] = (left[indices] - 1).clamp(min=0)
        return torch.where(ready, indices.float(), torch.nan)

    everything = question(pictures(list(map(float, range(len(failures))))))
    scores = retrying("a", ask, OraclePolicy(failing="worst", retries=retries))(everything)
    for index, count in enumerate(failures):
        assert (float(scores[index]) == index) is (count <= retries)


def spotty(images: Tensor, filled: bool = False) -> Tensor:
    """Gives about half of the pictures no score, or the worst score of their batch, whatever batch they come in."""
    scores = 100 + linears(2)["b"](images)  # never the 0 that stands where nothing was asked
    odd = (50 * scores).sin() > 0
    return torch.where(odd, scores[~odd].min() if filled else torch.nan, scores)


def test_a_run_takes_the_worst_of_a_step_whatever_its_chunks() -> None:
    rewards, preferences, policy = linears(1), lattice(2, 3), OraclePolicy("worst")
    expected = run(SAMPLER, preferences, rewards | {"b": partial(spotty, filled=True)})
    for max_batch in (64, 3):
        soup = run(replace(SAMPLER, max_batch=max_batch), preferences, rewards | {"b": spotty}, policy=policy)
        torch.testing.assert_close(soup.images, expected.images, rtol=0, atol=1e-5)
        torch.testing.assert_close(soup.rewards, expected.rewards, rtol=0, atol=1e-5)
        assert soup.ledger.failures["b"] > soup.failed[:, 1].sum()
        assert soup.ledger.failures["a"] == 0


def test_final_pictures_without_a_score_are_marked() -> None:
    preferences = lattice(2, 3)
    everything = run(SAMPLER, preferences, linears(2)).rewards[:, 1]
    middle = everything.median()

    def blind_to_the_best(images: Tensor) -> Tensor:
        scores = linears(2)["b"](images)
        return torch.where(scores > middle, torch.nan, scores) if len(images) == len(everything) else scores

    soup = run(SAMPLER, preferences, linears(1) | {"b": blind_to_the_best}, policy=OraclePolicy("worst"))
    assert soup.failed[:, 1].tolist() == (everything > middle).tolist()
    assert (soup.rewards[soup.failed[:, 1], 1] == soup.rewards[~soup.failed[:, 1], 1].min()).all()
    assert soup.ledger.failures["b"] == soup.failed.sum() > 0
    # Where no picture has a score, there is no worst.
    rewards = linears(1) | {"b": lambda images: images.mean((1, 2, 3)) * torch.nan}
    with pytest.raises(RewardError, match=r"reward 'b' failed on all .* at denoising step 1, so"):
        run(SAMPLER, preferences, rewards, policy=OraclePolicy("worst"))


@given(st.lists(st.integers(1, 5), max_size=12), st.integers(1, 20))
def test_a_budget_is_kept_from_the_first_picture_to_the_last(batches: list[int], most: int) -> None:
    reward = Flaky(1, WAYS["nan"])
    asking = oracle_of(reward, "worst", retries=1, budgets={"a": most})
    seen = 0
    for number, size in enumerate(batches):
        for _ in range(2 if number == 0 else 1):  # the first call fails
            seen = seen + size if seen + size <= most else most + 1
        if seen > most:
            with pytest.raises(LimitError, match=f"oracle.budgets.a is {most}: "):
                asking.score("a", question(pictures([0.5] * size)))
            assert reward.seen <= most
            return
        asking.score("a", question(pictures([0.5] * size)))
        assert reward.seen == seen == asking.account.spent()["oracle.budgets.a"]


def test_a_reward_out_of_time_has_failed() -> None:
    def slow(images: Tensor, prompts: list[str]) -> Tensor:
        done.wait(20)
        return level(images, prompts)

    done, start = threading.Event(), time.perf_counter()
    with pytest.raises(RewardError, match=r"reward 'a' failed now: TimeoutError: no answer within 0\.05 s"):
        asked(slow, [0.1], timeout=0.05, retries=1)
    assert time.perf_counter() - start < 5
    done.set()
    # A call within its time is itself.
    assert within(20, divmod)(7, 2) == (3, 1)
    with pytest.raises(TimeoutError, match="the call's own"):
        within(20, Mock(side_effect=TimeoutError("the call's own")))()


class Counting:
    def __init__(self) -> None:
        self.seen: list[tuple[float, str]] = []

    def __call__(self, images: Tensor, prompts: list[str]) -> Tensor:
        self.seen += zip((round(float(image.mean()), 3) for image in images), prompts, strict=True)
        return level(images, prompts) + torch.tensor([float(len(prompt)) for prompt in prompts])


def remembering(reward: Callable, *failing: str) -> tuple[RewardOracle, Meter]:
    return oracle_of(reward, *failing, cached=["a"]), Meter(Ledger.of(["a"]))


def test_nothing_is_asked_twice() -> None:
    reward = Counting()
    asking, meter = remembering(reward)
    first = asking.score("a", question(pictures([0.1, 0.2, 0.1]), meter))
    again = asking.score("a", question(pictures([0.2, 0.1, 0.1]), meter, ["x", "xx", "x"]))
    torch.testing.assert_close(first, torch.tensor([1.1, 1.2, 1.1]))
    torch.testing.assert_close(again, torch.tensor([1.2, 2.1, 1.1]))
    assert sorted(reward.seen) == [(0.1, "x"), (0.1, "xx"), (0.2, "x")]
    assert (meter.ledger.queries["a"], meter.ledger.hits["a"]) == (3, 3)
    # Pictures of other shapes are others.
    flat = torch.zeros(1, 3, 2, 8)
    asking, meter = remembering(Counting())
    for images in (flat, flat.view(1, 3, 4, 4), flat.view(1, 3, 2, 8)):
        asking.score("a", question(images, meter))
    assert (meter.ledger.queries["a"], meter.ledger.hits["a"]) == (2, 1)


def test_a_failure_is_not_remembered() -> None:
    reward = Flaky(1, WAYS["nan"])
    asking, meter = remembering(reward, "worst")
    answers = [asking.score("a", question(pictures([0.5]), meter)).item() for _ in range(3)]
    assert answers[0] != answers[0]
    assert answers[1:] == [0.5, 0.5]
    assert (reward.seen, meter.ledger.hits["a"], meter.ledger.failures["a"]) == (2, 1, 1)


@pytest.mark.parametrize("on_cpu", [(), ("a", "b")])
def test_the_same_soup_again_asks_nothing(on_cpu: tuple[str, ...]) -> None:
    plain = run(SAMPLER, lattice(2, 3))
    thrifty = oracle(linears(2), on_cpu, OraclePolicy(cached=["a"]))
    problems = [Problem(bind(SAMPLER), thrifty, 64, "a lobster") for _ in range(2)]
    first, second = (SAMPLER.run(problem, lattice(2, 3), "a lobster", 0) for problem in problems)
    torch.testing.assert_close(first.images, plain.images)
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.rewards, second.rewards)
    assert first.ledger.queries == plain.ledger.queries
    assert (second.ledger.queries["a"], second.ledger.hits["a"]) == (0, first.ledger.queries["a"])
    assert second.ledger.queries["b"] == first.ledger.queries["b"]


def test_final_pictures_are_scored_uncounted_and_not_again_if_they_were_candidates() -> None:
    tally, policy = Tally(), OraclePolicy(cached=["a"])
    run(BestOfN(num_inference_steps=STEPS, pool=5), lattice(1, 1), tally.rewards(linears(1)), policy=policy)
    assert tally.counts["a"] == 5
    soup = run(BaseModel(num_inference_steps=STEPS), lattice(1, 1), policy=policy)
    assert soup.ledger.queries == soup.ledger.hits == {"a": 0}


def test_what_a_reward_keeps_from_a_score_can_take_part_in_a_gradient() -> None:
    kept: list[Tensor] = []

    def keeping(images: Tensor, prompts: list[str]) -> Tensor:
        if not kept:
            kept.append(torch.full_like(images, 2.0))
        return (kept[0] * images).mean((1, 2, 3))

    asking, images = oracle_of(keeping), pictures([0.5]).requires_grad_()
    with torch.inference_mode():
        assert asking.score("a", question(pictures([0.5]))).tolist() == [1.0]
    asking.differentiable_score("a", question(images)).sum().backward()
    torch.testing.assert_close(images.grad, torch.full_like(images, 2 / images.numel()))


BAD = [
    ({"failing": "zero"}, "failing is 'zero': choose one of raise, worst"),
    ({"retries": -1}, "retries is -1"),
    ({"timeout": 0.0}, "timeout is 0.0"),
    ({"budgets": {"b": 9}}, "oracle.budgets names 'b', but the rewards are a"),
    ({"budgets": {"a": 0}}, "the budget of 'a' is 0: give at least 1"),
    ({"cached": ["b"]}, "oracle.cached names 'b', but the rewards are a"),
]


def test_bad_options_are_refused() -> None:
    for options, message in BAD:
        with pytest.raises(ValueError, match=message):
            oracle_of(level, **options)


def test_an_oracle_is_sent_to_another_process_without_its_cache() -> None:
    reward = Counting()
    asking, _ = remembering(reward)
    asking.score("a", question(pictures([0.5])))
    copied = copy.deepcopy(asking)
    assert copied.score("a", question(pictures([0.5]))).tolist() == [1.5]
    assert (len(reward.seen), len(copied.rewards["a"].score.seen)) == (1, 2)
