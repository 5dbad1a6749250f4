"""Random numbers of a soup. They depend on the prompt, the seed and their purpose alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseSource:
    """Source of all random numbers of one soup.

    Each purpose has a generator of its own, seeded by the prompt, the seed and the purpose. Numbers are drawn on the
    CPU in float32. So they are the same on every device, in every order of drawing and for any number of processes.

    Args:
        prompt: Prompt of the soup.
        seed: Seed of the soup.
        shape: Shape (C, H, W) of a latent.
        device: Device that the numbers are moved to.
    """

    prompt: str
    seed: int
    shape: tuple[int, ...]
    device: torch.device | str = "cpu"

    def normal(self, count: int, *purpose: object) -> Tensor:
        """Return standard normal noise (count, C, H, W) for a purpose, such as ("step", 3).

        Equal purposes give equal numbers. The text of each part of the purpose counts.
        """
        noise = torch.randn(count, *self.shape, generator=self._generator(*purpose), dtype=torch.float32)
        return noise.to(self.device)

    def uniform(self, count: int, *purpose: object) -> Tensor:
        """Return uniform numbers (count,) in [0, 1) for a purpose, as float32."""
        return torch.rand(count, generator=self._generator(*purpose), dtype=torch.float32).to(self.device)

    def start(self, member: int = 0) -> Tensor:
        """Return the latent x_T (C, H, W) that a trajectory starts from. Each member of a pool has its own."""
        return self.normal(1, "start", member)[0]

    def step(self, step: int, member: int = 0) -> Tensor:
        """Return the noise (C, H, W) of an unsteered step."""
        return self.normal(1, "step", step, member)[0]

    def candidates(
        self, count: int, step: int, preference: Sequence[float] | None = None, antithetic: bool = False
    ) -> Tensor:
        """Return the noise (count, C, H, W) of a step's candidates.

        Args:
            count: Number of candidates.
            step: Index of the denoising step.
            preference: Weights of the preference whose trajectory draws its own noise. None is the noise that all
                trajectories share.
            antithetic: Let every second candidate mirror the one before it.

        Raises:
            ValueError: The count of antithetic candidates is odd.
        """
        owner = "all" if preference is None else ",".join(f"{weight:.6g}" for weight in preference)
        if not antithetic:
            return self.normal(count, "candidates", step, owner)
        require_even(count)
        half = self.normal(count // 2, "candidates", step, owner)
        return torch.stack([half, -half], dim=1).flatten(0, 1)  # so that the first few are complete pairs too

    def _generator(self, *purpose: object) -> torch.Generator:
        key = "\0".join(str(part) for part in (self.prompt, self.seed, *purpose))
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "big", signed=True))


def require_even(candidates: int) -> None:
    """Check that candidates can be drawn in antithetic pairs.

    Raises:
        ValueError: Their number is odd.
    """
    if candidates % 2:
        raise ValueError(f"candidates is {candidates}, odd: antithetic noise comes in pairs, give an even number")
