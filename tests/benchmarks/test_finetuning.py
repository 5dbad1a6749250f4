"""Rows of fits that a benchmark keeps, and their table and figure."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks import finetuning, fits
from benchmarks.finetuning_report import as_markdown, draw
from srsoup_lightning.runs.files import append_rows, read_rows


def row(run: str, seed: int, round_: int, **gains: float) -> dict[str, Any]:
    costs = {"nfe": 1000 * round_, "queries": 48 * round_, "gradients": 10 * round_, "seconds": 60.0 * round_}
    return {"run": run, "seed": seed, "round": round_, "kl": None, "gains": gains} | costs


def test_the_report_has_the_last_gains_of_each_seed_and_a_line_for_each_reward() -> None:
    runs = defaultdict(list)
    for each in (
        row("DRaFT, clip", 0, 5, color=-0.5, clip=0.2),
        row("DRaFT, clip", 0, 10, color=-1.0, clip=1.25),
        row("DRaFT, clip", 1, 10, color=0.5, clip=1.5),
        row("Matching, jpeg", 0, 3, jpeg=2.0, clip=-0.1),
    ):
        runs[each["run"]].append(each)
    assert as_markdown(runs).splitlines()[2:] == [
        "| DRaFT, clip | +1.25, +1.50 | -1.00 color, +0.50 color | —, — | 10 | 480 | 10,000 | 100 | 10 |",
        "| Matching, jpeg | +2.00 | -0.10 clip | — | 3 | 144 | 3,000 | 30 | 3 |",
    ]
    first, second = draw(runs).axes
    assert [list(line.get_ydata()) for line in first.lines if len(line.get_xdata()) == 3] == [
        [0, 0.2, 1.25],
        [0, -0.5, -1.0],
    ]
    assert [text.get_text() for text in second.get_legend().texts] == ["jpeg", "clip, held out"]


def test_rows_of_a_run_replace_its_earlier_ones_and_a_failed_run_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(arguments: list[str]) -> int:
        root = Path(arguments[arguments.index("--trainer.default_root_dir") + 1])
        root.mkdir(parents=True, exist_ok=True)
        append_rows(root / "validation.jsonl", [{"round": 1, "gains": {"jpeg": 1.0}}])
        return code

    monkeypatch.setattr(fits, "srsoup", fit)
    out, code = tmp_path / "rows.jsonl", 0
    for _ in range(2):
        finetuning.main(out, tmp_path / "runs", ["Matching, jpeg"], [0, 1])
    kept = [row for _, row in read_rows(out)]
    assert [each["seed"] for each in kept] == [0, 0, 1, 1]  # all validations of each table, once
    assert {each["run"] for each in kept} == {"Matching, jpeg"}
    code = 1
    with pytest.raises(RuntimeError, match="Matching, jpeg, seed 0 has failed in"):
        finetuning.main(out, tmp_path / "runs", ["Matching, jpeg"], [0])
