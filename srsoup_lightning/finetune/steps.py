"""Choice of the denoising steps that a policy gradient trains."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.transition import Kernel


class Steps(abc.ABC):
    """Steps that are trained, and steps that draw noise. Both depend on the schedule, the group and the round."""

    def check(self, kernel: Kernel) -> None:
        """Check that the schedule has such steps.

        Raises:
            ValueError: It has none, or a trained step draws no noise.
        """
        if not steps_with_noise(kernel):
            raise ValueError(
                "no step draws noise, so sigma is 0 at each trained step: give eta above 0, or take another objective"
            )

    @abc.abstractmethod
    def count(self, kernel: Kernel) -> int:
        """Return the number of trained steps."""

    @abc.abstractmethod
    def trained(self, kernel: Kernel, noise: NoiseSource, round_: int) -> tuple[int, ...]:
        """Return the trained steps of a group, in order."""

    def noisy(self, kernel: Kernel, noise: NoiseSource, round_: int) -> tuple[int, ...]:
        """Return the steps of a group that draw noise: all that the schedule lets, unless a subclass says otherwise."""
        return steps_with_noise(kernel)


def steps_with_noise(kernel: Kernel) -> tuple[int, ...]:
    """Return the steps whose sigma is above 0."""
    return tuple(step for step in range(kernel.steps) if kernel.sigma(step) > 0)


@dataclass(frozen=True)
class AllSteps(Steps):
    """All steps that draw noise."""

    def count(self, kernel: Kernel) -> int:
        """See :meth:`Steps.count`."""
        return len(steps_with_noise(kernel))

    def trained(self, kernel: Kernel, noise: NoiseSource, round_: int) -> tuple[int, ...]:
        """See :meth:`Steps.trained`."""
        return steps_with_noise(kernel)


@dataclass(frozen=True)
class RandomSteps(Steps):
    """A random share of the steps that draw noise, drawn anew for each group, as DDPO's timestep fraction.

    Args:
        share: Share in (0, 1]. At least one step is trained.

    Raises:
        ValueError: The share is outside its range.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}: give a share of the steps in (0, 1]")

    def count(self, kernel: Kernel) -> int:
        """See :meth:`Steps.count`."""
        return max(1, int(self.share * len(steps_with_noise(kernel))))

    def trained(self, kernel: Kernel, noise: NoiseSource, round_: int) -> tuple[int, ...]:
        """See :meth:`Steps.trained`."""
        noisy = steps_with_noise(kernel)
        order = noise.uniform(len(noisy), "trained steps").cpu().argsort()
        return tuple(noisy[index] for index in order[: self.count(kernel)].sort().values.tolist())


@dataclass(frozen=True)
class Window(Steps):
    """A window of consecutive steps. They draw noise and are trained; all other steps are deterministic.

    A random window is that of Flow-GRPO-Fast. A sliding one is that of MixGRPO (Li et al. 2025, arXiv:2507.21802).

    Args:
        length: Number of steps, at least 1.
        first: First step that a window may begin with, at least 0.
        last: Step that every window ends before. None is the first half of the steps.
        slide_every: Number of rounds after which the window moves on by one step. It begins anew at the end. None draws
            a window for each group.

    Raises:
        ValueError: A number is outside its range.
    """

    length: int = 2
    first: int = 0
    last: int | None = None
    slide_every: int | None = None

    LEAST: ClassVar[dict[str, int]] = {"length": 1, "first": 0, "slide_every": 1}

    def __post_init__(self) -> None:
        for name, least in self.LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} of a window is {value}: give at least {least}")

    def check(self, kernel: Kernel) -> None:
        """See :meth:`Steps.check`."""
        super().check(kernel)
        last = self._last(kernel)
        if self.first + self.length > last or last > kernel.steps:
            raise ValueError(
                f"a window of {self.length} steps does not fit between step {self.first} and step {last} of "
                f"{kernel.steps}: give another length, first or last"
            )
        if silent := [step for step in range(self.first, last) if kernel.sigma(step) == 0]:
            raise ValueError(
                f"step {silent[0]} is in a window and draws no noise: sigma is 0 there. Let windows end before it by "
                f"last: {silent[0]}"
            )

    def count(self, kernel: Kernel) -> int:
        """See :meth:`Steps.count`."""
        return self.length

    def trained(self, kernel: Kernel, noise: NoiseSource, round_: int) -> tuple[int, ...]:
        """See :meth:`Steps.trained`."""
        places = self._last(kernel) - self.first - self.length + 1
        if self.slide_every is None:
            place = int(noise.uniform(1, "trained steps").item() * places)
        else:
            place = round_ // self.slide_every % places
        return tuple(range(self.first + place, self.first + place + self.length))

    def noisy(self, kernel: Kernel, noise: NoiseSource, round_: int) -> tuple[int, ...]:
        """See :meth:`Steps.noisy`; the trained ones."""
        return self.trained(kernel, noise, round_)

    def _last(self, kernel: Kernel) -> int:
        return max(kernel.steps // 2, self.first + self.length) if self.last is None else self.last
