"""Random numbers that depend on the item, the step and the preference alone: never on order, batch or process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseSource:
    """All the noise of one soup.

    Every draw has a generator of its own, seeded by (prompt, seed, what the draw is for), and is made on the CPU in
    float32: the same numbers on every device and in every order of asking.

    Args:
        prompt: The soup's prompt.
        seed: The soup's seed.
        shape: A latent's shape, (C, H, W).
        device: Where the draws are put.
        antithetic: Whether every second candidate mirrors the one before it.
    """

    prompt: str
    seed: int
    shape: tuple[int, ...]
    device: torch.device | str = "cpu"
    antithetic: bool = False

    def start(self, member: int = 0) -> Tensor:
        """The latent x_T where a trajectory begins, (*shape); a pool has one a member."""
        return self._normal(1, "start", member)[0]

    def step(self, step: int, member: int = 0) -> Tensor:
        """The noise of an unsteered step, (*shape)."""
        return self._normal(1, "step", step, member)[0]

    def candidates(self, count: int, step: int, preference: Sequence[float] | None = None) -> Tensor:
        """The noise of a step's candidates, (count, *shape): common to all trajectories, or one preference's own.

        Args:
            count: How many.
            step: The denoising step.
            preference: The weights whose trajectory draws for itself; None for the draws that all share.

        Raises:
            ValueError: An odd count of antithetic candidates.
        """
        owner = "all" if preference is None else ",".join(f"{weight:.6g}" for weight in preference)
        if not self.antithetic:
            return self._normal(count, "candidates", step, owner)
        require_even(count)
        half = self._normal(count // 2, "candidates", step, owner)
        return torch.stack([half, -half], dim=1).flatten(0, 1)  # so that the first few hold whole pairs too

    def _normal(self, count: int, *purpose: object) -> Tensor:
        key = "\0".join(str(part) for part in (self.prompt, self.seed, *purpose))
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big", signed=True))
        return torch.randn(count, *self.shape, generator=generator).to(self.device)


def require_even(candidates: int) -> None:
    """Antithetic noise comes in pairs.

    Raises:
        ValueError: An odd number of candidates.
    """
    if candidates % 2:
        raise ValueError(f"candidates is {candidates}, odd: antithetic noise comes in pairs, give an even number")
