"""The benchmark for GPUs runs, on the tiny model and without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import gpu
from srsoup_lightning.samplers import FixedSoup, SRSoup


@pytest.mark.slow
def test_every_way_is_measured_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = SRSoup(num_inference_steps=2, guidance_scale=5.0, candidates=2, sharing=FixedSoup(0, 1))
    monkeypatch.setattr(gpu, "SAMPLER", quick)
    ways = ["plain", "channels_last"]
    gpu.main(models=["tiny"], ways=ways, divisions=1, soups=1, max_batch=4, out=tmp_path / "gpu.json")
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert written["dtype"] == "bfloat16"
    assert set(written["models"]["tiny"]) == set(ways)
    for row in written["models"]["tiny"].values():
        # Guided: both anchors' prediction at their common start, its two candidates' previews, and the last step's.
        assert row["nfe_a_soup"] == 2 * (1 + 2 + 2)
        assert row["soups_a_minute"] > 0
        assert row["network_share"] > 0
        assert row["milliseconds_an_evaluation"] > 0
