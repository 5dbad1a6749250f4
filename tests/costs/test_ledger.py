"""Seconds add up, also when a block fails."""

from __future__ import annotations

from time import sleep

import pytest

from srsoup_lightning.costs.ledger import Ledger


def test_timed_blocks_add_up_even_if_one_fails() -> None:
    ledger = Ledger()
    with ledger.timed():
        sleep(0.01)
    first = ledger.seconds
    with pytest.raises(ValueError, match="must be non-negative"), ledger.timed():
        sleep(-1)
    assert first >= 0.01
    assert ledger.seconds > first


def test_ledgers_share_no_counts() -> None:
    one, other = Ledger(), Ledger()
    one.queries["a"] = 3
    one.queries["b"] = 4
    assert (one.total_queries, other.total_queries) == (7, 0)
