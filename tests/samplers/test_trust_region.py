"""Trust regions: their counters, and the centres that these belong to."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srsoup_lightning.samplers import TRS
from srsoup_lightning.samplers.trust_region import Region, perturbed
from tests.samplers.test_noise_search import STEPS, added, archive_of
from tests.samplers.toys import SHAPE, normal

DEFAULT = TRS()


@pytest.mark.parametrize(
    ("outcomes", "length", "counters"),
    [
        ("++", 0.8, (2, 0)),
        ("+++", 1.2, (0, 0)),
        ("++-", 0.8, (0, 1)),
        ("--+", 0.8, (1, 0)),
        ("---", 0.8 / 1.5, (0, 0)),
        ("+++" * 4, 2.4, (0, 0)),
        ("---" * 7, 0.05, (0, 0)),
        ("---" * 8, 0.8, (0, 0)),
        ("---" * 8 + "+-", 0.8, (0, 1)),
    ],
)
def test_a_region_grows_by_successes_shrinks_by_failures_and_begins_anew(
    outcomes: str, length: float, counters: tuple[int, int]
) -> None:
    region = Region(0, DEFAULT.length)
    for champion, outcome in enumerate(outcomes, 1):
        region = DEFAULT.after(region, champion if outcome == "+" else None)
    assert region.length == pytest.approx(length)
    assert (region.successes, region.failures) == counters
    assert region.best == max((k for k, outcome in enumerate(outcomes, 1) if outcome == "+"), default=0)


def test_counters_belong_to_the_index_of_a_centre_and_pass_to_its_proposals() -> None:
    regions = {0: Region(0, 0.8, successes=2), 1: Region(1, 0.3, failures=1)}
    values = [1.0, 2.0, 1.5, 0.5, 1.9]  # 2 and 3 come from 0, and 4 from 1
    DEFAULT.settle(regions, [0, 0, 1], [2, 3, 4], values)
    assert regions[0] == Region(2, pytest.approx(1.2))
    assert regions[1] == Region(1, 0.3, failures=2)
    assert regions[2] == Region(2, pytest.approx(1.2))
    assert regions[3] == Region(3, pytest.approx(1.2))
    assert regions[4] == Region(4, 0.3, failures=2)


def test_a_batch_is_split_evenly_and_the_best_regions_get_what_is_over() -> None:
    assert list(Counter(centre for centre, _ in DEFAULT.split(range(15))).values()) == [2] * 5 + [1] * 10
    assert TRS(batch=2).split([7, 8, 9]) == [(7, 0), (8, 0)]


@given(seed=st.integers(0, 999), length=st.floats(0.1, 2.4))
def test_proposals_change_a_share_of_the_numbers_inside_the_box(seed: int, length: float) -> None:
    centre = normal(*SHAPE, seed=seed)
    uniform = torch.rand(1 + 2 * centre.numel(), generator=torch.Generator().manual_seed(seed))
    moves = (perturbed(centre, length, uniform) - centre).flatten()
    assert moves.abs().max() <= length / 2 + 1e-6
    torch.testing.assert_close(moves, (uniform[49:] - 0.5) * length * (uniform[1:49] <= 0.1 + 0.8 * uniform[0]))
    uniform[1:49] = 0.95
    uniform[20] = 0.92
    assert (perturbed(centre, length, uniform) != centre).sum() == 1


@pytest.mark.parametrize("renormalise", [True, False])
def test_proposals_lie_around_the_best_starts_and_on_the_shell(renormalise: bool) -> None:
    sampler = TRS(num_inference_steps=STEPS, warm_up=8, regions=2, batch=4, iterations=4, renormalise=renormalise)
    archive, noise = archive_of(sampler, torch.tensor([[1.0], [1.0]]))
    sizes = [len(starts) for starts in added(sampler, archive, noise)]
    assert sizes == [8] + [8] * 4  # of both preferences
    assert len(archive) == 8 + 4 * 4  # which are the same
    norms = archive.starts[8:].flatten(1).norm(dim=1)
    assert torch.allclose(norms, torch.tensor(48**0.5)) == renormalise
    centres = archive.starts[archive.values()[0, :8].topk(2).indices.repeat_interleave(2)].flatten(1)
    cosines = torch.nn.functional.cosine_similarity(archive.starts[8:12].flatten(1), centres)
    assert cosines.min() > 0.95
