"""Rows of a benchmark's soups over several sittings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.soup_rows import add_rows, predict
from srsoup_lightning import SRSoupModule
from srsoup_lightning.runs.directory import RunDirectory
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


def test_a_later_sitting_adds_prompts_to_a_run(tmp_path: Path, module: SRSoupModule) -> None:
    for prompt in ("a cat", "a dog"):
        run = RunDirectory(predict(tmp_path, module, [prompt], [0]))
    assert [row["prompt"] for _, row in read_rows(run.ledger)] == ["a cat", "a dog"]
