"""The account of a run: several hands, kills at any moment, a full disk, and never more paid than the budget."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsoup_lightning.costs.account import Account, Memory
from srsoup_lightning.costs.limits import LimitError, budget_of
from srsoup_lightning.runs.spending import SharedCounts

RED = budget_of("red")

MOVES = {
    "hold": lambda account, images: account.hold({RED: images, "unlimited": images}),
    "pay": lambda account, images: account.pay(RED, images),
    "settle": lambda account, _: account.settle({}),
}


@given(
    budget=st.integers(1, 60),
    moves=st.lists(st.tuples(st.integers(0, 2), st.sampled_from([*MOVES, "die"]), st.integers(1, 9)), max_size=40),
)
def test_whatever_happens_no_more_is_paid_than_the_budget(budget: int, moves: list[tuple[int, str, int]]) -> None:
    """Three processes with soups that begin, ask, end or are killed, in any order; then all are continued by one."""
    store, paid = Memory(), 0
    accounts = [Account({RED: budget}, store) for _ in range(3)]
    for index, move, images in moves:
        if move == "die":
            accounts[index] = Account({RED: budget}, store)
            continue
        with suppress(LimitError):
            MOVES[move](accounts[index], images)
            paid += images * (move == "pay")
        assert accounts[0].spent() == {RED: paid}
        assert paid <= budget
    heir = Account({RED: budget}, store)
    heir.begin()
    with pytest.raises(LimitError, match=f"{RED} is {budget}: {paid} are taken, and {budget - paid + 1} more"):
        heir.pay(RED, budget - paid + 1)
    heir.pay(RED, budget - paid)
    assert heir.spent() == {RED: budget}


def test_images_that_one_holds_are_not_for_others_and_come_back() -> None:
    one = Account({RED: 10})
    other = Account({RED: 10}, one.store)
    one.hold({RED: 7})
    with pytest.raises(LimitError, match=f"{RED} is 10: 7 are taken, and 4 more were needed"):
        other.pay(RED, 4)
    one.pay(RED, 5)
    one.settle({})
    other.pay(RED, 5)
    assert other.spent() == {RED: 10}


def pay_and_ask(root: Path, seed: int, budget: int, pause: float) -> None:
    """Pay for random batches until the budget is spent; each is asked for, in a file of its own, after it is paid."""
    account, draws = Account({RED: budget}), random.Random(seed)
    account.share(SharedCounts(root / "spending.json"))
    with (root / f"asked.{seed}").open("ab", buffering=0) as asked:
        while True:
            images = draws.randint(1, 9)
            try:
                account.pay(RED, images)
            except LimitError:
                return
            asked.write(b"." * images)
            time.sleep(pause)


def fork_all(root: Path, seeds: list[int], budget: int, pause: float) -> list[int]:
    children = []
    for seed in seeds:
        child = os.fork()
        if child == 0:
            try:
                pay_and_ask(root, seed, budget, pause)
            finally:
                os._exit(0)
        children.append(child)
    return children


def asked(root: Path) -> int:
    return sum(path.stat().st_size for path in root.glob("asked.*"))


def test_processes_together_spend_the_budget_but_for_less_than_a_batch(tmp_path: Path) -> None:
    for child in fork_all(tmp_path, [0, 1, 2], 300, 0):
        assert os.waitpid(child, 0)[1] == 0
    assert 300 - 9 < asked(tmp_path) <= 300
    assert SharedCounts(tmp_path / "spending.json").read().spent[RED] == asked(tmp_path)


def test_kills_cost_a_batch_each_at_most_and_never_exceed_the_budget(tmp_path: Path) -> None:
    moments, kills = random.Random(0), 8
    for kill in range(kills):
        (child,) = fork_all(tmp_path, [kill], 600, 0.001)
        time.sleep(moments.uniform(0.01, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        spent = SharedCounts(tmp_path / "spending.json").read().spent.get(RED, 0)
        assert asked(tmp_path) <= spent <= asked(tmp_path) + 9 * (kill + 1)
    pay_and_ask(tmp_path, kills, 600, 0)
    assert 600 - 9 * (kills + 1) < asked(tmp_path) <= 600


def test_where_nothing_can_be_written_nothing_is_paid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = Account({RED: 10})
    account.share(SharedCounts(tmp_path / "spending.json"))
    account.pay(RED, 4)
    account.hold({RED: 2})

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for move in MOVES.values():
        with pytest.raises(OSError, match="No space left"):
            move(account, 3)
    monkeypatch.undo()
    assert account.spent() == {RED: 4}
    with pytest.raises(LimitError, match="7 more were needed"):
        account.pay(RED, 7)
    account.pay(RED, 4)
