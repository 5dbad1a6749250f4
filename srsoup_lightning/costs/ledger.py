"""What a soup cost, counted where it happens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter


def unmetered(cost: str, amount: int) -> None:
    """Let everything pass."""


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
        before: Told of what is about to be counted, "queries" or "nfe" and how many, before the work is done; what it
            raises ends the soup. It is no field, and in no row or copy.
    """

    queries: dict[str, int] = field(default_factory=dict)
    hits: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    nfe: int = 0
    decodes: int = 0
    seconds: float = 0.0
    device: str = "cpu"

    def __post_init__(self) -> None:
        self.before: Callable[[str, int], None] = unmetered
        self._start: float | None = None

    @classmethod
    def of(cls, rewards: Iterable[str], device: str = "cpu") -> Ledger:
        """An empty ledger for rewards of these names."""
        names = list(rewards)
        return cls(dict.fromkeys(names, 0), dict.fromkeys(names, 0), dict.fromkeys(names, 0), device=device)

    @property
    def total_queries(self) -> int:
        """Queries of all rewards together."""
        return sum(self.queries.values())

    @property
    def elapsed(self) -> float:
        """The seconds up to now, of a block under way too."""
        return self.seconds + (0.0 if self._start is None else perf_counter() - self._start)

    def count_queries(self, name: str, images: int) -> None:
        """Count images that a reward is about to be asked about."""
        self.before("queries", images)
        self.queries[name] += images

    def count_evaluations(self, number: int) -> None:
        """Count network evaluations that are about to be made."""
        self.before("nfe", number)
        self.nfe += number

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the block's wall-clock time to `seconds`."""
        self._start = perf_counter()
        try:
            yield
        finally:
            self.seconds, self._start = self.elapsed, None
