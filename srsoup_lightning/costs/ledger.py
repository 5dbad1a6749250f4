"""Record of the costs of a soup."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Ledger:
    """Costs of one soup. It is a plain record: a :class:`~srsoup_lightning.costs.meter.Meter` counts in it.

    Attributes:
        queries: Reward name to the number of images that it was asked about. The scoring of final images is not
            part of it.
        hits: Reward name to the number of images whose scores came from the cache.
        failures: Reward name to the number of images that it gave no score, final images included.
        nfe: Network evaluations, one for each latent. Classifier-free guidance counts 2.
        gradients: Gradient evaluations, one for each latent that a gradient was computed for.
        decodes: Latents decoded to images, final images included.
        seconds: Wall-clock time.
        device: Device of the denoising network.
    """

    queries: dict[str, int] = field(default_factory=dict)
    hits: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    nfe: int = 0
    gradients: int = 0
    decodes: int = 0
    seconds: float = 0.0
    device: str = "cpu"

    @classmethod
    def of(cls, rewards: Iterable[str], device: str = "cpu") -> Ledger:
        """Return an empty ledger for rewards of these names."""
        names = list(rewards)
        return cls(dict.fromkeys(names, 0), dict.fromkeys(names, 0), dict.fromkeys(names, 0), device=device)

    @property
    def total_queries(self) -> int:
        """Queries of all rewards together."""
        return sum(self.queries.values())
