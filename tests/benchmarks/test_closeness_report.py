"""Report of closeness: it has the numbers of its rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.closeness_report import PREDICTORS, Row, halves, main, price_list, worth


def pair(step: int, near: float, agreed: float, reward: str = "jpeg") -> Row:
    row: Row = {"step": step, "reward": reward, "listener": 0.0, "supplier": 1.0, "reward_correlation": agreed}
    return row | dict.fromkeys(PREDICTORS, near)


PAIRS = [pair(1, 0.9, 1.0), pair(1, 0.5, 0.6), pair(2, 0.3, 0.2), pair(2, 0.1, 0.0)]


def test_the_halves_are_cut_within_each_step_or_over_all() -> None:
    predictor = next(iter(PREDICTORS))
    assert halves(PAIRS, predictor, within_steps=True) == pytest.approx((0.3, 0.6))
    assert halves(PAIRS, predictor, within_steps=False) == pytest.approx((0.1, 0.8))


def test_rewards_that_are_all_equal_agree_with_nothing() -> None:
    assert worth([pair(1, 0.5, float("nan")), pair(1, 0.5, 0.6)]) == pytest.approx(0.3)


def test_the_price_list_has_the_mean_of_each_range() -> None:
    pairs = [*PAIRS, *({**row, "reward": "clip"} for row in PAIRS)]
    lines = {line.split(" | ")[0]: line for line in price_list(pairs).splitlines()}
    assert lines["| 0 to 0.4"] == "| 0 to 0.4 | 2 | 0.10 | 0.10 |"
    assert lines["| 0.9 to 0.97"] == "| 0.9 to 0.97 | 1 | 1.00 | 1.00 |"


def test_pairs_of_one_trajectory_are_left_out(tmp_path: Path) -> None:
    levels = (0.2, 0.5, 0.65, 0.8, 0.95, 0.99)
    rows = [pair(step, near, near, reward) for step in (1, 2) for near in levels for reward in ("jpeg", "clip")]
    same = [{**row, "supplier": row["listener"], "reward_correlation": 1.0} for row in rows]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows + same))
    main(rows=tmp_path / "rows.jsonl", table=tmp_path / "table.md", figure=tmp_path / "figure.svg")
    assert "| 0 to 0.4 | 2 | 0.20 | 0.20 |" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "figure.png").stat().st_size > 1_000
