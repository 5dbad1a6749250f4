"""Record of costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain


@dataclass
class Ledger:
    """Costs of a soup, or of a training: a plain record that a :class:`~srsoup_lightning.costs.meter.Meter` counts in.

    Attributes:
        queries: Reward name to the number of images that it was asked about. The scoring of final images is not
            part of it.
        hits: Reward name to the number of images whose scores came from the cache.
        failures: Reward name to the number of images that it gave no score, final images included.
        nfe: Network evaluations, one for each latent. Classifier-free guidance counts 2.
        gradients: Gradient evaluations, one for each prediction of a latent that was differentiated. Gradients that go
            through the decoder and the rewards alone are part of the queries.
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


def added(ledgers: Sequence[Ledger]) -> Ledger:
    """Return the sum of ledgers. Its device is that of the first one."""
    summed = Ledger(device=ledgers[0].device) if ledgers else Ledger()
    for option in fields(Ledger):
        values = [getattr(ledger, option.name) for ledger in ledgers]
        if isinstance(getattr(summed, option.name), dict):
            keys = dict.fromkeys(chain.from_iterable(values))
            setattr(summed, option.name, {key: sum(counts.get(key, 0) for counts in values) for key in keys})
        elif option.name != "device":
            setattr(summed, option.name, sum(values))
    return summed
