"""The tables of the rewards' benchmark say what its numbers say, and its networks are what it says they are."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.reward_networks import save_aesthetic_head
from benchmarks.rewards import WEIGHTLESS, as_markdown
from rewards.networks.linear_head import linear_head
from rewards.networks.weight_file import read_weights


def test_a_table_by_hand() -> None:
    row = {"grey": 0.5, "low": 0.1234, "median": 0.2, "high": 0.3, "noise": 61000.0, "milliseconds": 1.26}
    ratio = {"ratio": 0.9876, "least": 0.9, "most": 1.01, "milliseconds": 3.0}
    results = {"values": {"Sharpness": row}, "throughput": {"HPSv2": {"224": ratio, "512": ratio}}}
    values, throughput = as_markdown(results).split("\n\n")
    assert values.splitlines()[-1] == "| Sharpness | 0.5 | 0.123, 0.2, 0.3 | 61000 | 1.3 |"
    assert throughput.splitlines()[-1] == "| HPSv2 | 0.99 (0.90 to 1.01) | 0.99 (0.90 to 1.01) |"


def test_every_name_is_the_class_s() -> None:
    assert [type(reward).__name__ for reward in WEIGHTLESS.values()] == list(WEIGHTLESS)


def test_the_head_is_the_official_format(tmp_path: Path) -> None:
    path = save_aesthetic_head(tmp_path, 512)
    layers = linear_head(read_weights(str(path)), 512, str(path))
    assert layers(torch.rand(2, 512)).shape == (2, 1)
