"""Methods at equal cost: each sampler has one row, whatever its names."""

from __future__ import annotations

from pathlib import Path

from benchmarks.equal_cost import Bench, closest
from benchmarks.rivals import entries_of


def test_a_second_name_of_one_sampler_has_no_row(tmp_path: Path) -> None:
    bench = Bench("two rewards", tmp_path, "float32", tmp_path / "sizes.json")
    names = ["Fast", "Fast with a pool of 64"]

    def found(budget: int) -> list[str]:
        return [entry.name for entry in entries_of(bench, "nfe", budget, names, {}, [])]

    assert found(1_700) == ["unsteered", "Fast, candidates 14"]  # 64 is the pool in proportion to 14 candidates
    assert found(850) == ["unsteered", "Fast, candidates 6", "Fast with a pool of 64, candidates 4"]


def test_a_size_below_the_budget_is_taken_where_a_closer_one_is_beyond_it() -> None:
    assert closest({2: 0.73, 3: 1.22}) == 2
    assert closest({2: 0.73, 3: 1.15}) == 3
    assert closest({2: 1.22}) is None
