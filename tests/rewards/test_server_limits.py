"""Requests a minute of each client, on a simulated clock."""

from __future__ import annotations

import pytest

from rewards.remote.rate_limit import RateLimit, client_key


@pytest.mark.parametrize("a_minute", [1, 5, 6, 60, 600])
def test_nobody_gets_more_than_the_rate_and_ten_seconds_of_it(a_minute: int) -> None:
    meter = RateLimit(a_minute)
    let_in = [moment for moment in range(0, 300_000, 50) if not meter.wait("a", moment / 1000)]
    at_once = max(1, a_minute // 6)
    assert len(let_in) == pytest.approx(5 * a_minute + at_once, abs=1)
    for start in (0, 60_000, 240_000):
        assert sum(start <= moment < start + 60_000 for moment in let_in) <= a_minute + at_once


def test_a_client_that_waits_as_long_as_told_is_let_in() -> None:
    meter, now = RateLimit(30), 1000.0
    for _ in range(50):
        wait = meter.wait("a", now)
        if wait:
            assert meter.wait("a", now + 0.99 * wait)
            now += wait + 1e-6
            assert meter.wait("a", now) == 0
    assert now > 1050


@pytest.mark.parametrize("a_minute", [1, 5])
def test_a_rate_of_less_than_one_in_ten_seconds_lets_none_come_early(a_minute: int) -> None:
    meter = RateLimit(a_minute)
    assert [meter.wait("a", now) for now in (0.0, 0.9 * 60 / a_minute)] == [0.0, pytest.approx(6 / a_minute)]


def test_askers_don_t_pay_for_each_other() -> None:
    meter = RateLimit(6)
    assert [meter.wait(asker, 0.0) > 0 for asker in ("a", "b", "a", "b", "c")] == [False, False, True, True, False]


def test_many_askers_are_forgotten_when_they_have_nothing_due() -> None:
    meter = RateLimit(600)
    for number in range(20_000):
        meter.wait(str(number), number * 0.001)
    assert len(meter._due) <= 1000
    assert [meter.wait("19999", 20.0) > 0 for _ in range(100)].count(False) == 99  # it is remembered


CLIENTS = {
    "192.0.2.7": "192.0.2.7", "::1": "::/64", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
    "::ffff:192.0.2.7": "192.0.2.7", "fe80::1%eth0": "fe80::/64", "": "",
}  # fmt: skip


@pytest.mark.parametrize(("host", "client"), CLIENTS.items())
def test_the_addresses_of_one_machine_are_one_client(host: str, client: str) -> None:
    assert client_key(host) == client
