"""Benchmark of query efficiency: finished soups are kept, and the report has the numbers of the rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import options, query_efficiency
from benchmarks.query_efficiency_report import main as report
from srsoup_lightning import Loading

BASE, HALF, FULL = "BaseModel", "FixedSoup(0, 8), N = 16", "WeightedSum, N = 16"


def write_rows(folder: Path) -> None:
    """The soup has half the hypervolume of the weighted sum at a quarter of its queries, on every prompt."""
    with (folder / "soups.jsonl").open("w") as file:
        for k, prompt in enumerate(("x", "y", "z"), start=1):
            for method, share, queries in ((BASE, 0.1, 0), (HALF, 0.5, 25), (FULL, 1.0, 100)):
                row = {"setting": "two rewards", "dtype": "bfloat16", "method": method, "prompt": prompt, "seed": 0}
                row |= {"utility": share * k, "hypervolume": share * k / 10, "smoothness": 0.1}
                file.write(json.dumps({**row, "queries": queries, "nfe": 7, "decodes": 5, "seconds": 1.0}) + "\n")


def test_the_report_says_what_the_rows_say(tmp_path: Path) -> None:
    write_rows(tmp_path)
    report(results=tmp_path, figure=tmp_path / "figure.svg")
    table = (tmp_path / "tables.md").read_text()
    (soup,) = (line for line in table.splitlines() if line.startswith(f"| {HALF} "))
    cells = [cell.strip() for cell in soup.split("|")[2:]]
    assert cells[0] == "3"
    assert cells[2].startswith("0.100 (")  # the mean of 0.05, 0.1 and 0.15
    assert cells[3] == "25"
    assert cells[6] == cells[7] == "0.50 (0.50 to 0.50)"
    order = [line.split(" | ")[0] for line in table.splitlines()[4:]]
    assert order == [f"| {method}" for method in (BASE, FULL, HALF)]  # that of METHODS
    assert all((tmp_path / f"figure.{kind}").stat().st_size > 1_000 for kind in ("svg", "png"))


def write_scales(folder: Path, prompts: tuple[str, ...]) -> None:
    moments = {name: [0.0, 1.0] for name in query_efficiency.REWARDS}
    rows = [{"prompt": prompt, "samples": 64, "moments": moments} for prompt in prompts]
    (folder / "unsteered.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_rows_that_are_there_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path)
    write_scales(tmp_path, ("x", "y", "z"))
    monkeypatch.setattr(query_efficiency, "runner", lambda *_: pytest.fail)
    before = (tmp_path / "soups.jsonl").read_text()
    chosen = {"settings": ["two rewards"], "methods": [BASE, HALF, FULL], "prompts": ["x", "y", "z"], "seeds": [0]}
    query_efficiency.main(out=tmp_path, **chosen)
    assert (tmp_path / "soups.jsonl").read_text() == before


def test_an_option_may_load_the_model_in_another_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Loading] = []
    write_scales(tmp_path, ("x",))
    monkeypatch.setattr(query_efficiency, "runner", lambda *given: seen.append(given[-1]) or pytest.fail)
    monkeypatch.setattr(query_efficiency, "_measure_setting", lambda *_: None)
    options.main(out=tmp_path, options=["Auto", *options.LOADING], prompts=["x"], dtype="float32")
    plain = Loading(dtype="float32")
    others = [replace(plain, **theirs) for theirs in options.LOADING.values()]
    assert seen == [plain, plain, *(loading for other in others for loading in (plain, other))]  # scales are plain
