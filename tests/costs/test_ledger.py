"""A record of costs, and the meter that counts in it."""

from __future__ import annotations

import math
from time import sleep

import pytest

from srsoup_lightning.costs.account import Account
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.costs.limits import LimitError, Limits
from srsoup_lightning.costs.meter import Meter
from srsoup_lightning.samplers import DSG, Problem
from tests.samplers.toys import bind, lattice, linears, oracle


def test_timed_blocks_add_up_even_if_one_fails() -> None:
    meter = Meter(Ledger())
    with meter.timed():
        sleep(0.01)
        assert meter.elapsed >= 0.01
        assert meter.ledger.seconds == 0
    first = meter.ledger.seconds
    with pytest.raises(ValueError, match="must be non-negative"), meter.timed():
        sleep(-1)
    assert first >= 0.01
    assert meter.ledger.seconds == meter.elapsed > first


def test_ledgers_share_no_counts() -> None:
    one, other = Ledger(), Ledger()
    one.queries["a"] = 3
    one.queries["b"] = 4
    assert (one.total_queries, other.total_queries) == (7, 0)


@pytest.mark.parametrize("owner", ["soup", "run"])
def test_gradients_are_limited_before_they_are_computed(owner: str) -> None:
    limits = Limits(max_gradients=5)
    problem = Problem(bind(sampler := DSG(num_inference_steps=4)), oracle(linears(2)), 4)
    account = Account(limits.named("run") if owner == "run" else {})
    guarded = problem.meter.limited(limits if owner == "soup" else Limits(), account, Ledger(), {})
    with (
        pytest.raises(LimitError, match=f"{owner}_limits.max_gradients is 5: 5"),
        guarded,
    ):
        sampler.run(problem, lattice(2, 1), "a lobster", 0)
    assert problem.ledger.gradients == 5
    assert account.spent() == ({"run_limits.max_gradients": 5} if owner == "run" else {})


def test_what_is_expected_is_reserved_and_what_is_spent_is_settled() -> None:
    account, meter = Account({"run_limits.max_nfe": 10.0, "run_limits.max_seconds": math.inf}), Meter(Ledger.of(["a"]))
    with meter.limited(Limits(), account, Ledger(nfe=6), {}):
        assert account.store.read().held["run_limits.max_nfe"] == 6
        meter.count_evaluations(8)
        assert account.store.read().taken("run_limits.max_nfe") == 8
        with pytest.raises(LimitError, match=r"run_limits\.max_nfe is 10.0: 8.0 are taken, and 3.0 more"):
            meter.count_evaluations(3)
    assert account.spent()["run_limits.max_nfe"] == 8
    meter.count_evaluations(100)  # outside of the block nothing is limited
    assert meter.ledger.nfe == 108
