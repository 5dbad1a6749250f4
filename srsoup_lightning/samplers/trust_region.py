"""Trust-region noise search: boxes around the best starts, which grow and shrink by their success."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.samplers.noise_search import Archive, NoiseSearch
from srsoup_lightning.search.gradient import project_to_shell

SPARSEST, DENSEST = 0.1, 0.9  # share of the numbers of a start that one proposal changes


class Region(NamedTuple):
    """State of a trust region around a start of the archive.

    Attributes:
        best: Archive index of the best picture that was found from this centre, or the centre's own.
        length: Side L of the box that proposals are drawn from.
        successes: Rounds in a row in which the best picture was surpassed.
        failures: Rounds in a row in which it was not.
    """

    best: int
    length: float
    successes: int = 0
    failures: int = 0


@dataclass(frozen=True, kw_only=True)
class TRS(NoiseSearch):
    """Trust-region search for the start (arXiv:2603.14504).

    Random starts, shared by all preferences, come first. In each iteration the k best starts in the archive are the
    centres of regions. The batch is split evenly among them, and the better ones get what is over. A proposal is its
    centre plus ``mask * (u - 1/2) L``. Here u is uniform in [0, 1] and L the side of the region. The mask selects each
    number with a probability that is drawn from [0.1, 0.9], and at least one number.

    A region succeeds where its best proposal surpasses what was found from its centre before. After three successes in
    a row L grows, and after three failures it shrinks. Shrunk once more at its floor, it begins anew.

    In the released code, L and the counters stay with the rank of a centre, while the centres are sorted anew. Here
    they belong to the centre's index in the archive. A proposal that becomes a centre takes over L and the counters of
    the region that it came from. All random numbers are pseudo-random. The paper uses Sobol points up to 21201 numbers.

    Pictures for P preferences: at most ``warm_up + P * batch * iterations``, exactly so for one. Each costs T
    predictions and a query of each reward that some preference weighs.

    Args:
        warm_up: Number of random starts, at least 2.
        regions: Number k of regions, at least 1.
        batch: Number of proposals of an iteration for each preference, at least 1.
        iterations: Number of iterations after the random starts, at least 1.
        length: L of a new region, from `shortest` to `longest`.
        shortest: Floor of L, above 0.
        longest: Ceiling of L.
        factor: Factor by which L grows or shrinks, above 1.
        patience: Number of successes or failures in a row that change L, at least 1.
        renormalise: Scale each proposal to the norm sqrt(d) of a typical normal draw of d numbers. The released code
            does not: there the norm grows with every success, and starts leave the distribution that the model knows.

    Raises:
        ValueError: A number is outside its range.
    """

    warm_up: int = at_least(2, default=80)
    regions: int = at_least(1, default=15)
    batch: int = at_least(1, default=20)
    iterations: int = at_least(1, default=16)
    length: float = 0.8
    shortest: float = 0.05
    longest: float = 2.4
    factor: float = 1.5
    patience: int = at_least(1, default=3)
    renormalise: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.shortest <= self.length <= self.longest:
            raise ValueError(f"length is {self.length}: give 0 < shortest {self.shortest} <= length <= {self.longest}")
        if not self.factor > 1:
            raise ValueError(f"factor is {self.factor}: give more than 1")

    @property
    def batches(self) -> int:
        """See :attr:`NoiseSearch.batches`."""
        return 1 + self.iterations

    def proposals(self, archive: Archive, noise: NoiseSource) -> Iterator[Tensor]:
        """See :meth:`NoiseSearch.proposals`."""
        yield torch.stack([noise.start(member) for member in range(self.warm_up)])
        tables: list[dict[int, Region]] = [{} for _ in range(len(archive.evaluator))]  # by the centre's archive index
        for iteration in range(self.iterations):
            best = archive.values().topk(min(self.regions, len(archive))).indices.tolist()
            plans = [self.split(centres) for centres in best]
            starts = []
            for regions, plan in zip(tables, plans, strict=True):
                for centre, number in plan:
                    region = regions.setdefault(centre, Region(centre, self.length))
                    uniform = noise.uniform(1 + 2 * archive.starts[0].numel(), "region", iteration, centre, number)
                    starts.append(perturbed(archive.starts[centre], region.length, uniform))
            moved = torch.stack(starts)
            yield project_to_shell(moved, moved) if self.renormalise else moved
            latest = archive.latest.view(len(plans), -1).tolist()
            for regions, plan, proposals, values in zip(tables, plans, latest, archive.values().tolist(), strict=True):
                self.settle(regions, [centre for centre, _ in plan], proposals, values)

    def split(self, centres: Sequence[int]) -> list[tuple[int, int]]:
        """Split the batch evenly among centres, the best first. Return the centre and the number of each proposal."""
        each, over = divmod(self.batch, len(centres))
        return [(centre, number) for rank, centre in enumerate(centres) for number in range(each + (rank < over))]

    def settle(
        self, regions: dict[int, Region], centres: Sequence[int], proposals: Sequence[int], values: Sequence[float]
    ) -> None:
        """Update the regions of a preference by the outcome of an iteration.

        Args:
            regions: Regions by the archive index of their centre.
            centres: Centre of each of B proposals.
            proposals: Archive index of each proposal.
            values: Value of each picture in the archive.
        """
        for centre in dict.fromkeys(centres):
            own = [proposal for at, proposal in zip(centres, proposals, strict=True) if at == centre]
            champion = max(own, key=values.__getitem__)
            surpassed = values[champion] > values[regions[centre].best]
            region = regions[centre] = self.after(regions[centre], champion if surpassed else None)
            for proposal in own:
                regions.setdefault(proposal, region._replace(best=proposal))

    def after(self, region: Region, champion: int | None) -> Region:
        """Return the state of a region after a success with the picture `champion`, or after a failure."""
        if champion is not None:
            successes = region.successes + 1
            if successes < self.patience:
                return Region(champion, region.length, successes)
            return Region(champion, min(region.length * self.factor, self.longest))
        failures = region.failures + 1
        if failures < self.patience:
            return Region(region.best, region.length, failures=failures)
        if region.length == self.shortest:
            return Region(region.best, self.length)
        return Region(region.best, max(region.length / self.factor, self.shortest))


def perturbed(centre: Tensor, length: float, uniform: Tensor) -> Tensor:
    """Return ``centre + mask * (u - 1/2) L`` for a centre (C, H, W).

    Args:
        centre: Centre of the region.
        length: Side L of its box.
        uniform: Uniform numbers in [0, 1), one for the mask's share, d for the mask and d for u: (1 + 2 d,).
    """
    share = SPARSEST + (DENSEST - SPARSEST) * uniform[0]
    chances, u = uniform[1:].view(2, *centre.shape)
    mask = chances <= torch.maximum(share, chances.min())  # at least one number moves
    return centre + mask * (u - 0.5) * length
