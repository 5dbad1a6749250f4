"""Search for the latent x_T that a trajectory starts from, where all other noise is fixed."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.samplers.result import Measures, OnStep, shifted
from srsoup_lightning.samplers.scalarised import Evaluator, Scalarised
from srsoup_lightning.samplers.walk import draw, walk
from srsoup_lightning.search.candidates import distinct


class Archive:
    """All pictures that were evaluated, with rewards that serve every preference.

    A picture is a function of its start, because the noise of the steps is the same for all of them. No start is
    evaluated twice. The archive keeps two latents for each picture on the problem's device.

    Args:
        evaluator: Value of latents to each of P preferences.
        noise: Source of the noise of the steps.

    Attributes:
        starts: Starts of the K pictures, distinct, (K, C, H, W).
        clean: Their final latents, (K, C, H, W).
        rewards: Their rewards, (K, M): all that some preference weighs, and 0 for the others.
        latest: Indices of the starts that were added last, also of those that were there before.
    """

    def __init__(self, evaluator: Evaluator, noise: NoiseSource) -> None:
        self.evaluator, self.noise = evaluator, noise
        device, shape = evaluator.problem.device, evaluator.problem.shape
        self.starts = self.clean = torch.empty(0, *shape, dtype=torch.float32, device=device)
        self.rewards = torch.empty(0, len(evaluator.problem.rewards), dtype=torch.float32, device=device)
        self.latest = torch.empty(0, dtype=torch.int64, device=device)

    def __len__(self) -> int:
        return len(self.starts)

    def add(self, starts: Tensor, on_step: OnStep = lambda _: None) -> None:
        """Draw the pictures of starts (B, C, H, W) and ask the rewards about them.

        The rewards of the first call settle the units, unless units are given. So it needs at least two starts.

        Args:
            starts: Latents of level 0.
            on_step: Callback after every step. The last one is told the measures of the archive.
        """
        problem, known = self.evaluator.problem, len(self)
        rows, index = distinct(torch.cat([self.starts, starts]))
        new = starts[rows[known:] - known]

        def step(x: Tensor, at: int) -> tuple[Tensor, Measures | None]:
            if len(x):  # all of the starts may have been known
                x = draw(problem, x, at, problem.denoise(x, at), self.noise, [0])
            if at + 1 < problem.kernel.steps:
                return x, None
            self._keep(new, x)
            return x, self._measures()

        self.latest = index[known:]
        walk(problem, new, step, on_step)

    def values(self) -> Tensor:
        """Return the values (P, K) of all pictures to each preference. Ranks are those in the whole archive."""
        steps = self.evaluator.problem.kernel.steps
        return self.evaluator.values(self.rewards.unsqueeze(0), self.clean.unsqueeze(0), steps)

    def best(self) -> Tensor:
        """Return the index (P,) of the best picture for each preference, whichever it was made for."""
        return self.values().argmax(1)

    def _keep(self, starts: Tensor, clean: Tensor) -> None:
        if len(starts):
            rewards = self.evaluator.ask(clean, self.evaluator.problem.kernel.steps)
            self.starts = torch.cat([self.starts, starts])
            self.clean = torch.cat([self.clean, clean])
            self.rewards = torch.cat([self.rewards, rewards])

    def _measures(self) -> Measures:
        best = self.values().amax(1)
        return self.evaluator.measures({"best value": best, "archive size": torch.full_like(best, len(self))})


@dataclass(frozen=True, kw_only=True)
class NoiseSearch(Scalarised, abc.ABC):
    """Base of methods that search for the start of a trajectory by the rewards of its picture.

    A subclass writes :meth:`proposals` and :attr:`batches`. All pictures are kept with all their rewards. A preference
    takes the best of them at the end, also one that was made for another preference, for no further query.

    Any eta will do, because the noise of the steps is fixed. Rewards have the units of the first batch, unless others
    are given.

    Args:
        eta: See :class:`~srsoup_lightning.diffusion.process.Process`. 0 makes a picture a smooth function of its start.
    """

    eta: float = 0.0

    @property
    @abc.abstractmethod
    def batches(self) -> int:
        """Number of batches of starts that :meth:`proposals` yields."""

    @abc.abstractmethod
    def proposals(self, archive: Archive, noise: NoiseSource) -> Iterator[Tensor]:
        """Yield batches of starts (B, C, H, W) for all preferences. Each is in the archive when the next one is made.

        Args:
            archive: Everything that was evaluated up to now, empty at first.
            noise: Source of all random numbers.
        """

    def search(self, evaluator: Evaluator, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Scalarised.search`."""
        archive, steps = Archive(evaluator, noise), evaluator.problem.kernel.steps
        for done, starts in enumerate(self.proposals(archive, noise)):
            archive.add(starts, shifted(on_step, done * steps, self.batches * steps))
        return archive.clean[archive.best()]


@dataclass(frozen=True, kw_only=True)
class ZeroOrder(NoiseSearch):
    """Zero-order search (Ma et al. 2025, arXiv:2501.09732): in each round the best start gets N neighbours.

    The start with the best picture in the archive is the pivot of the next round. Preferences with the same pivot share
    its neighbours. The first pivot is evaluated together with its neighbours. Their rewards settle the units, and are
    alike, so give `units` where rewards are weighed against each other.

    Pictures for one preference: ``1 + N R``. For P preferences: at most ``1 + N (1 + P (R - 1))``. Each costs T
    predictions and a query of each reward that some preference weighs.

    Args:
        neighbours: Number N of neighbours, at least 1.
        rounds: Number R of rounds, at least 1.
        cosine: Cosine of the angle between a start and its neighbours, in [-1, 1]. Near 1 the search is local, and at 0
            directions are random.

    Raises:
        ValueError: A number is outside its range.
    """

    neighbours: int = at_least(1, default=2)
    rounds: int = at_least(1, default=4)
    cosine: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        if not -1 <= self.cosine <= 1:
            raise ValueError(f"cosine is {self.cosine}: give a number in [-1, 1]")

    @property
    def batches(self) -> int:
        """See :attr:`NoiseSearch.batches`."""
        return self.rounds

    def proposals(self, archive: Archive, noise: NoiseSource) -> Iterator[Tensor]:
        """See :meth:`NoiseSearch.proposals`."""

        def around(start: Tensor, index: int, number: int) -> Tensor:
            return neighbours_of(start, noise.normal(self.neighbours, "neighbours", number, index), self.cosine)

        start = noise.start()
        yield torch.cat([start.unsqueeze(0), around(start, 0, 0)])
        for number in range(1, self.rounds):
            pivots = sorted(set(archive.best().tolist()))
            yield torch.cat([around(archive.starts[pivot], pivot, number) for pivot in pivots])


def neighbours_of(start: Tensor, noise: Tensor, cosine: float) -> Tensor:
    """Return the neighbours (N, C, H, W) of a start (C, H, W) at an angle of the given cosine, with its norm.

    ``|n| (c u + sqrt(1 - c^2) w)``. Here u is the direction of the start n, and w that of the noise (N, C, H, W)
    orthogonal to u.
    """
    norm = torch.linalg.vector_norm(start)
    u, w = start / norm, noise.flatten(1)
    w = w - torch.outer(w @ u.flatten(), u.flatten())
    w = w / torch.linalg.vector_norm(w, dim=1, keepdim=True)
    return norm * (cosine * u + (1 - cosine**2) ** 0.5 * w.view_as(noise))
