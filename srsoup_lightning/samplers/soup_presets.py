"""Presets of the soup: the settings that proved best where queries, or network evaluations, are the expensive part."""

from __future__ import annotations

from dataclasses import dataclass, field

from srsoup_lightning.problem import Preview
from srsoup_lightning.samplers.soup import SRSoup
from srsoup_lightning.search.pooling import Pooled
from srsoup_lightning.search.selection import Resampling, Selection
from srsoup_lightning.search.sharing import Sharing
from srsoup_lightning.search.surrogate import Surrogate


@dataclass(frozen=True, kw_only=True)
class Auto(SRSoup):
    """SRSoup with the settings that proved best for few queries.

    All trajectories start from the best of a pool. They pool their candidates, and a surrogate predicts most of their
    rewards. It needs less than a fifth of the weighted sum's queries, for 0.9 to 1 of its network evaluations. Where
    the network is the expensive part, take :class:`Fast`.

    Arguments and errors are those of :class:`SRSoup`.
    """

    candidates: int | list[int] = 5
    sharing: Sharing = field(default_factory=Pooled)
    surrogate: Surrogate | None = field(default_factory=Surrogate)
    selection: Selection | None = field(default_factory=Selection)


@dataclass(frozen=True, kw_only=True)
class Fast(SRSoup):
    """SRSoup with the settings that proved best for few network evaluations.

    All trajectories start from the best of a pool, which jumps over the first steps. They pool their candidates, and a
    preference goes on from another's trajectory where that one serves it better. Rewards see previews without
    classifier-free guidance, which take one evaluation in place of two, so there can be almost twice as many
    candidates. Each of them is asked about every reward with weight, since it has been previewed anyway. All
    preferences share the pool, so take a smaller one for one or two, and change it in proportion to the candidates:
    64 for 14, 27 for 6. Where queries are the expensive part, take :class:`Auto`.

    Arguments and errors are those of :class:`SRSoup`.
    """

    candidates: int | list[int] = 14
    sharing: Sharing = field(default_factory=lambda: Pooled(power=2.0, proportional=False))
    selection: Selection | None = field(default_factory=lambda: Selection(pool=64, jump=True))
    resampling: Resampling | None = field(default_factory=Resampling)
    preview: Preview = "unguided"
