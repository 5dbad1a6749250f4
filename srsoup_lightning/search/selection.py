"""Start of a search: the best of a pool of unsteered trajectories."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Selection:
    """Let trajectories start from the best ones of a pool.

    The first steps decide the content of a picture, and one start may be far from good for any preference. Unsteered
    trajectories whose previews are scored once find a better start for fewer queries than a search does.

    Args:
        pool: Number of unsteered trajectories, at least 2.
        start: Share of the steps after which the pool is scored and the search begins, in (0, 1).
        shared: Let all preferences start from the one that serves their mean best. So they show one scene and can use
            each other's candidates. If False, each preference starts from the one that serves it best. Of many
            preferences, few starts remain then, because the extremes serve most of them best.
        jump: Take each member of the pool to the start of the search by one deterministic step. So a member costs two
            predictions, whatever the number of steps. If False, it takes all steps before the start, with their noise.

    Raises:
        ValueError: A number is outside its range.
    """

    pool: int = 96
    start: float = 0.2
    shared: bool = True
    jump: bool = False

    def __post_init__(self) -> None:
        if self.pool < 2:
            raise ValueError(f"pool is {self.pool}: there is nothing to select from, give at least 2")
        if not 0 < self.start < 1:
            raise ValueError(f"start is {self.start}: give a share of the steps in (0, 1), e.g. 0.2")

    def first_step(self, steps: int) -> int:
        """Return the step before which the pool is scored, of so many steps."""
        return round(self.start * steps)
