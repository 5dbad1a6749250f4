"""What a soup cost, counted where it happens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter


@dataclass
class Ledger:
    """The cost of one soup.

    Attributes:
        queries: Reward name to the images it was asked about, as often as it was; the scoring of final images is not
            part of it.
        hits: Reward name to the images whose scores were remembered instead.
        failures: Reward name to the images that it gave no score, final ones among them.
        nfe: Network evaluations, one a latent; classifier-free guidance counts 2.
        decodes: Latents decoded to images, the final ones among them.
        seconds: Wall-clock time.
        device: Where the network ran.
    """

    queries: dict[str, int] = field(default_factory=dict)
    hits: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    nfe: int = 0
    decodes: int = 0
    seconds: float = 0.0
    device: str = "cpu"

    @classmethod
    def of(cls, rewards: Iterable[str], device: str = "cpu") -> Ledger:
        """An empty ledger for rewards of these names."""
        names = list(rewards)
        return cls(dict.fromkeys(names, 0), dict.fromkeys(names, 0), dict.fromkeys(names, 0), device=device)

    @property
    def total_queries(self) -> int:
        """Queries of all rewards together."""
        return sum(self.queries.values())

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the block's wall-clock time to `seconds`."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds += perf_counter() - start
