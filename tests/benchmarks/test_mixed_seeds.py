"""Fronts of mixed seeds: what two fronts share, mixing keeps, and of what they don't it takes turns."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.mixed_seeds import main


def test_every_second_point_is_of_another_seed(tmp_path: Path) -> None:
    # In the box from -2 to 6 the point (2, 2) dominates a quarter, and (6, -2) or (-2, 6) nothing.
    middle, ends = [[2.0, 2.0], [6.0, -2.0]], [[6.0, -2.0], [2.0, 2.0]]
    rows = [("turned", 0, middle), ("turned", 1, ends), ("equal", 0, middle), ("equal", 1, middle)]
    lines = [
        json.dumps({"setting": "two rewards", "method": method, "prompt": "x", "seed": seed, "front": front})
        for method, seed, front in rows
    ]
    lines += [json.dumps({"setting": "two rewards", "method": "without a front", "prompt": "x", "seed": 0})]
    files = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for file, some in zip(files, (lines[::2], lines[1::2]), strict=True):
        file.write_text("\n".join(some) + "\n")
    main(files, tmp_path / "table.md")
    # Mixed, they are two points in the middle (0.25), or the two ends (0): 0.125 where each had 0.25.
    assert (tmp_path / "table.md").read_text().splitlines()[2:] == [
        "| two rewards | turned | 2 | 0.50 (0.50 to 0.50) |",
        "| two rewards | equal | 2 | 1.00 (1.00 to 1.00) |",
    ]
