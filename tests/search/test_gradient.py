"""Search gradients against loops, linear rewards and integrals."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import torch
from torch import Tensor

from srsoup_lightning.search.closeness import bhattacharyya
from srsoup_lightning.search.gradient import mix, project_to_shell, search_gradient
from srsoup_lightning.search.shaping import standardise

P, S, M, N, SHAPE = 4, 3, 2, 5, (2, 3, 2)
SIGMA = 0.3


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_search_gradient_is_the_weighted_sum_of_noises() -> None:
    weights, noise = normal(P, M, N), normal(N, *SHAPE, seed=1)
    expected = [[sum(weights[p, j, k] * noise[k] for k in range(N)) for j in range(M)] for p in range(P)]
    torch.testing.assert_close(search_gradient(weights, noise), torch.stack([torch.stack(row) for row in expected]))


def test_weights_that_sum_to_zero_do_not_see_where_the_noise_is_centred() -> None:
    weights, noise = standardise(normal(P, N)), normal(N, *SHAPE, seed=1)
    moved = search_gradient(weights, noise + normal(*SHAPE, seed=2))
    torch.testing.assert_close(moved, search_gradient(weights, noise), rtol=1e-6, atol=1e-6)


def test_projection_keeps_the_direction_and_gives_it_the_length_of_noise() -> None:
    direction = normal(P, *SHAPE) * torch.tensor([1e-6, 1.0, 1e3, 1e9]).view(-1, 1, 1, 1)
    projected = project_to_shell(direction, normal(*SHAPE, seed=1))
    length = math.sqrt(math.prod(SHAPE))
    torch.testing.assert_close(projected.flatten(1).norm(dim=1), torch.full((P,), length, dtype=torch.float64))
    for before, after in zip(direction, projected, strict=True):
        torch.testing.assert_close(after, length * before / before.norm())


def test_no_direction_falls_back_to_an_honest_draw() -> None:
    direction, fallbacks = normal(P, *SHAPE), normal(P, *SHAPE, seed=1)
    direction[[0, 2]] = 0
    each, shared = project_to_shell(direction, fallbacks), project_to_shell(direction, fallbacks[:1])
    torch.testing.assert_close(each[[0, 2]], fallbacks[[0, 2]], rtol=0, atol=0)
    torch.testing.assert_close(shared[[0, 2]], fallbacks[[0, 0]], rtol=0, atol=0)
    torch.testing.assert_close(each[[1, 3]], shared[[1, 3]], rtol=0, atol=0)


def test_direction_of_a_linear_reward_tends_to_its_gradient_like_one_over_root_n() -> None:
    """Standardised rewards are ``a.z / |a|``, so the part of g/N across ``a`` has variance 1/N in d - 1 directions."""
    d, repeats, counts = 16, 100, [64, 256, 1024, 4096]
    a, mean = normal(d), normal(d, seed=1)
    errors = []
    for count in counts:
        noise = normal(repeats, count, d, seed=count)
        weights = standardise((mean + SIGMA * noise) @ a)
        found = torch.stack([search_gradient(each, draws) for each, draws in zip(weights, noise, strict=True)])
        unit = project_to_shell(found, noise[0, :1]) / d**0.5
        errors.append((unit - a / a.norm()).square().sum(1).mean().sqrt())
    expected = torch.tensor([math.sqrt((d - 1) / count) for count in counts], dtype=torch.float64)
    torch.testing.assert_close(torch.stack(errors), expected, rtol=0.1, atol=0)
    x, y = torch.tensor(counts).double().log(), torch.stack(errors).log()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    assert abs(slope + 0.5) < 0.03


def test_bhattacharyya_is_the_geometric_mean_of_the_overlaps_of_the_dimensions() -> None:
    means_a, means_b = normal(2, 3, 1, 1) / 2, normal(4, 3, 1, 1, seed=1) / 2
    grid = torch.linspace(-6, 6, 4001, dtype=torch.float64)

    def density(mean: Tensor) -> Tensor:
        return torch.exp(-((grid - mean) ** 2) / (2 * SIGMA**2)) / (SIGMA * math.sqrt(2 * math.pi))

    for row, a in zip(bhattacharyya(means_a, means_b, SIGMA), means_a.flatten(1), strict=True):
        for found, b in zip(row, means_b.flatten(1), strict=True):
            overlaps = torch.trapezoid((density(a[:, None]) * density(b[:, None])).sqrt(), grid)
            torch.testing.assert_close(found, overlaps.prod() ** (1 / 3), rtol=1e-6, atol=0)
    means = normal(P, *SHAPE)
    overlap = bhattacharyya(means, means, SIGMA)
    torch.testing.assert_close(overlap.diagonal(), torch.ones(P, dtype=torch.float64), rtol=0, atol=0)
    torch.testing.assert_close(overlap, overlap.T)
    assert (overlap[~torch.eye(P, dtype=torch.bool)] < 1).all()


COEFFICIENTS, SHAPED = normal(P, S, M).abs(), normal(S, M, N, seed=1)
MEANS, SOURCE_MEANS = normal(P, *SHAPE, seed=3), normal(S, *SHAPE, seed=4)
SOURCE_MEANS[1] = MEANS[2]


@pytest.mark.parametrize(("correction", "scale"), [("exact", 1 / SIGMA), ("raw", 1.0), ("none", 0.0)])
@pytest.mark.parametrize("own", [False, True], ids=["common noise", "own noise"])
def test_mix_is_the_formula_of_its_docstring(correction: str, scale: float, own: bool) -> None:
    noise = normal(*([S] if own else []), N, *SHAPE, seed=2)
    expected = torch.zeros_like(MEANS)
    for p, s, k in itertools.product(range(P), range(S), range(N)):
        z = noise[s, k] if own else noise[k]
        seen = z + scale * (SOURCE_MEANS[s] - MEANS[p])
        expected[p] += COEFFICIENTS[p, s] @ SHAPED[s, :, k] * z.norm() * seen / seen.norm()
    torch.testing.assert_close(mix(COEFFICIENTS, SHAPED, noise, MEANS, SOURCE_MEANS, SIGMA, correction), expected)


def test_where_means_agree_every_correction_is_none_and_elsewhere_raw_forgets_sigma_alone() -> None:
    noise, same = normal(S, N, *SHAPE, seed=2), (MEANS[:1].expand_as(MEANS), MEANS[:1].expand_as(SOURCE_MEANS))
    exact, raw, none = (mix(COEFFICIENTS, SHAPED, noise, *same, SIGMA, each) for each in ("exact", "raw", "none"))
    torch.testing.assert_close(exact, none)
    torch.testing.assert_close(raw, none)
    mixed = partial(mix, COEFFICIENTS, SHAPED, normal(N, *SHAPE, seed=2), MEANS, SOURCE_MEANS)
    raw, exact, at_one = mixed(SIGMA, "raw"), mixed(SIGMA, "exact"), mixed(1.0, "exact")
    torch.testing.assert_close(raw, at_one)
    assert (raw - exact).abs().max() > 0.1
    with pytest.raises(ValueError, match="correction is 'exakt': choose one of exact, raw, none"):
        mixed(SIGMA, "exakt")
