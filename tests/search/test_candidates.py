"""Latents at one point are found, whatever their order."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from srsoup_lightning.search.candidates import distinct

points = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=12)


@given(points=points)
def test_every_latent_has_the_index_of_the_first_latent_at_its_point(points: list[tuple[int, int]]) -> None:
    rows, index = distinct(torch.tensor(points, dtype=torch.float32).view(-1, 1, 2, 1))
    first_seen = list(dict.fromkeys(points))
    assert rows.tolist() == [points.index(point) for point in first_seen]
    assert index.tolist() == [first_seen.index(point) for point in points]


def test_the_last_bit_tells_latents_apart() -> None:
    x = torch.ones(3, 3, 4, 4)
    x[2, 2, 3, 3] = torch.nextafter(x[2, 2, 3, 3], torch.tensor(2.0))
    rows, index = distinct(x)
    assert (rows.tolist(), index.tolist()) == ([0, 2], [0, 0, 1])
