"""Rows of a benchmark's soups over several sittings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.soup_rows import add_rows
from srsoup_lightning.runs.files import read_rows


def test_a_soup_is_made_once_and_again_where_its_method_has_changed_or_its_row_has_no_costs(tmp_path: Path) -> None:
    path, made = tmp_path / "soups.jsonl", []

    def sit(sampler: str, prompts: list[str], measures: dict[str, float]) -> bool:
        def make(missing: list[str]) -> list[dict[str, Any]]:
            made.append(missing)
            return [{"prompt": prompt, "seed": 0, **measures} for prompt in missing]

        about = {"method": "A", "sampler": sampler, "nfe_at_most": 3}
        return add_rows(path, about, prompts, 0, ["hypervolume", "nfe"], make)

    assert sit("old", ["a cat"], {"hypervolume": 0.5})  # a row without costs
    assert sit("old", ["a cat"], {"hypervolume": 0.5, "nfe": 3})
    assert sit("old", ["a cat", "a dog"], {"nfe": 3})
    assert not sit("old", ["a dog", "a cat"], {})
    assert sit("new", ["a dog"], {"nfe": 2})
    assert made == [["a cat"], ["a cat"], ["a dog"], ["a dog"]]
    rows = [(row["prompt"], row["sampler"], row["nfe"]) for _, row in read_rows(path)]
    assert rows == [("a cat", "old", 3), ("a dog", "new", 2)]
