"""Sheets of pictures: how large, and how long a prompt they bear."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from srsoup_lightning.report.sheet import GAP, LARGEST, LINE, soup_sheet
from tests.runs.test_directory import make_soup


@pytest.mark.parametrize(("height", "width"), [(300, 600), (1_024, 512)])
def test_large_pictures_are_reduced_in_proportion(height: int, width: int) -> None:
    sheet = soup_sheet(replace(make_soup(), images=torch.rand(2, 3, height, width)))
    longer = max(height, width)
    assert sheet.width == 2 * (LARGEST * width // longer + GAP) + GAP
    # The heading, both weights, both scores, and a gap after the weights and after the scores.
    assert sheet.height == LARGEST * height // longer + 5 * LINE + 2 * GAP


def test_a_long_prompt_is_broken_into_three_lines_at_most() -> None:
    heights = [soup_sheet(make_soup(prompt)).height for prompt in ("a cat", "a cat " * 10, "a cat\n" * 500)]
    assert [height - heights[0] for height in heights] == [0, LINE, 2 * LINE]
