"""Preference as an input of an adapter: one training that serves every preference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rewards.checks import require_choice
from srsoup_lightning.adapters import InputKind
from srsoup_lightning.diffusion.noise import NoiseSource

LEAST = 1e-6  # smallest uniform number whose logarithm is taken


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """Preferences as inputs of the adapter (ParetoSlider, arXiv:2604.20816).

    Each group is sampled, judged and trained for a preference of its own, which is drawn at random. So any objective
    serves.

    Args:
        kind: "ranks" gives each reward an equal share of the LoRA's ranks, which its weight scales. "embedding" adds
            the preference to the embedding of the denoising time, by a small network that begins at 0. The latter is
            that of the source. It shares the whole LoRA between all preferences, which then tend to show what the
            reward that is easiest to learn has taught.
        width: Width of the hidden layer of that network, at least 1.
        corners: Share of the groups whose preference is one reward alone, in [0, 1]. None is that of the source: 0.1
            for two rewards, and 0.5 for more.
        edges: Share of the groups whose preference is between two rewards, where there are more, in [0, 1]. None is
            that of the source: 0.35. All other groups draw from the whole simplex, evenly.

    Raises:
        ValueError: The kind is unknown, a number is outside its range, or both shares exceed 1 together.
    """

    kind: InputKind = "ranks"
    width: int = 64
    corners: float | None = None
    edges: float | None = None

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, InputKind)
        if self.width < 1:
            raise ValueError(f"width is {self.width}: give at least 1")
        for name, share in self.shares_given.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is {share}: give a share of the groups in [0, 1]")
        if (self.corners or 0) + (self.edges or 0) > 1:
            raise ValueError(f"corners is {self.corners} and edges is {self.edges}: give shares whose sum is at most 1")

    @property
    def shares_given(self) -> dict[str, float]:
        """Return the shares that have a number of their own, by name."""
        given = {"corners": self.corners, "edges": self.edges}
        return {name: share for name, share in given.items() if share is not None}

    def shares(self, rewards: int) -> tuple[float, float]:
        """Return the shares of the corners and of the edges, for that many rewards."""
        default = (0.1, 0.0) if rewards == 2 else (0.5, 0.35)
        corners = default[0] if self.corners is None else self.corners
        edges = default[1] if self.edges is None else self.edges
        return corners, edges if rewards > 2 else 0.0

    def draw(self, weighted: Tensor, noise: NoiseSource, *purpose: object) -> Tensor:
        """Draw a preference.

        Args:
            weighted: Whether each reward may have weight, bool (M,), on the CPU.
            noise: Source of the random numbers.
            purpose: Purpose of them.

        Returns:
            Weights (M,) float32, on the CPU.
        """
        corners, edges = self.shares(int(weighted.sum()))
        kind = float(noise.uniform(1, "preference", "kind", *purpose))
        return drawn_preference(
            weighted, noise, 1 if kind < corners else 2 if kind < corners + edges else None, *purpose
        )


def drawn_preference(weighted: Tensor, noise: NoiseSource, kept: int | None, *purpose: object) -> Tensor:
    """Draw a preference evenly from the simplex over some rewards, drawn as well.

    Args:
        weighted: Whether each reward may have weight, bool (M,), on the CPU.
        noise: Source of the random numbers.
        kept: Number of rewards. None is all that may have weight.
        purpose: Purpose of the random numbers.

    Returns:
        Weights (M,) float32, on the CPU.
    """
    count = int(weighted.sum())
    order = noise.uniform(count, "preference", "order", *purpose).argsort()
    # Exponential numbers over their sum are evenly distributed on the simplex (Devroye 1986, section V.2).
    parts = -noise.uniform(count, "preference", "parts", *purpose).clamp(min=LEAST).log()
    parts[order[kept if kept is not None else count :]] = 0
    weights = torch.zeros(len(weighted), dtype=torch.float32)
    weights[weighted] = (parts / parts.sum()).cpu()
    return weights
