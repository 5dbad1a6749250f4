"""Search gradients against loops, linear rewards and integrals."""

from __future__ import annotations

import math

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
    expected = torch.zeros(P, M, *SHAPE, dtype=torch.float64)
    for p in range(P):
        for j in range(M):
            for k in range(N):
                expected[p, j] += weights[p, j, k] * noise[k]
    torch.testing.assert_close(search_gradient(weights, noise), expected)


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
    d, repeats, counts = 16, 200, [64, 256, 1024, 4096]
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
            overlaps = [
                torch.trapezoid((density(x) * density(y)).sqrt(), grid).item() for x, y in zip(a, b, strict=True)
            ]
            assert found.item() == pytest.approx(math.prod(overlaps) ** (1 / 3), rel=1e-6)


def test_bhattacharyya_is_one_at_the_same_mean_and_symmetric() -> None:
    means = normal(P, *SHAPE)
    overlap = bhattacharyya(means, means, SIGMA)
    torch.testing.assert_close(overlap.diagonal(), torch.ones(P, dtype=torch.float64), rtol=0, atol=0)
    torch.testing.assert_close(overlap, overlap.T)
    assert (overlap[~torch.eye(P, dtype=torch.bool)] < 1).all()


def naive_mix(
    coefficients: Tensor, shaped: Tensor, noise: Tensor, means: Tensor, source_means: Tensor, correction: str
) -> Tensor:
    directions = torch.zeros_like(means)
    scale = {"exact": 1 / SIGMA, "raw": 1.0, "none": 0.0}[correction]
    for p in range(len(means)):
        for s in range(len(source_means)):
            for k in range(N):
                z = noise[s, k] if noise.ndim == means.ndim + 1 else noise[k]
                seen = z + scale * (source_means[s] - means[p])
                seen = z.norm() * seen / seen.norm()
                for j in range(M):
                    directions[p] += coefficients[p, s, j] * shaped[s, j, k] * seen
    return directions


@pytest.mark.parametrize("correction", ["exact", "raw", "none"])
@pytest.mark.parametrize("own", [False, True], ids=["common noise", "own noise"])
def test_mix_is_the_formula_of_its_docstring(correction: str, own: bool) -> None:
    coefficients, shaped = normal(P, S, M).abs(), normal(S, M, N, seed=1)
    noise = normal(*([S] if own else []), N, *SHAPE, seed=2)
    means, source_means = normal(P, *SHAPE, seed=3), normal(S, *SHAPE, seed=4)
    source_means[1] = means[2]
    torch.testing.assert_close(
        mix(coefficients, shaped, noise, means, source_means, SIGMA, correction),
        naive_mix(coefficients, shaped, noise, means, source_means, correction),
    )


def test_where_means_agree_every_correction_is_none() -> None:
    coefficients, shaped, noise = normal(P, S, M).abs(), normal(S, M, N, seed=1), normal(S, N, *SHAPE, seed=2)
    mean = normal(1, *SHAPE, seed=3)
    none = mix(coefficients, shaped, noise, mean.expand(P, *SHAPE), mean.expand(S, *SHAPE), SIGMA, "none")
    for correction in ("exact", "raw"):
        torch.testing.assert_close(
            mix(coefficients, shaped, noise, mean.expand(P, *SHAPE), mean.expand(S, *SHAPE), SIGMA, correction), none
        )


def test_raw_forgets_sigma_alone() -> None:
    coefficients, shaped, noise = normal(P, S, M).abs(), normal(S, M, N, seed=1), normal(N, *SHAPE, seed=2)
    means, source_means = normal(P, *SHAPE, seed=3), normal(S, *SHAPE, seed=4)
    raw, exact, at_one = (
        mix(coefficients, shaped, noise, means, source_means, sigma, correction)
        for sigma, correction in ((SIGMA, "raw"), (SIGMA, "exact"), (1.0, "exact"))
    )
    torch.testing.assert_close(raw, at_one)
    assert (raw - exact).abs().max() > 0.1


def test_an_unknown_correction_is_named() -> None:
    with pytest.raises(ValueError, match="correction is 'exakt': choose one of exact, raw, none"):
        mix(
            normal(P, S, M),
            normal(S, M, N),
            normal(N, *SHAPE),
            normal(P, *SHAPE),
            normal(S, *SHAPE),
            SIGMA,
            "exakt",
        )
