"""Limits on the costs of a soup and of a run, checked before anything is spent."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from srsoup_lightning.costs.ledger import Ledger


class LimitError(RuntimeError):
    """The next operation costs more than a limit or a budget leaves."""


@dataclass(frozen=True)
class Limits:
    """Highest costs of a soup, or of a run. None sets no limit.

    Args:
        max_queries: Queries of all rewards together.
        max_nfe: Network evaluations.
        max_gradients: Gradient evaluations.
        max_seconds: Seconds of sampling, added up over all processes. They are checked before each batch, so a soup
            may exceed the limit by the time of one batch.

    Raises:
        ValueError: A limit is not above 0.
    """

    max_queries: int | None = field(default=None, metadata={"operational": True})
    max_nfe: int | None = field(default=None, metadata={"operational": True})
    max_gradients: int | None = field(default=None, metadata={"operational": True})
    max_seconds: float | None = field(default=None, metadata={"operational": True})

    def __post_init__(self) -> None:
        for name, limit in asdict(self).items():
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} is {limit}: give a number above 0, or None for no limit")

    def named(self, owner: str) -> dict[str, float]:
        """Return the limits that are set, by option name, such as "run_limits.max_nfe" for the owner "run"."""
        return {f"{owner}_limits.{name}": limit for name, limit in asdict(self).items() if limit is not None}


def limited_costs(owner: str, ledger: Ledger, seconds: float | None = None) -> dict[str, float]:
    """Return the costs that :class:`Limits` can limit, by the option names of :meth:`Limits.named`.

    Args:
        owner: "soup" or "run".
        ledger: Costs so far.
        seconds: Seconds to take in place of those of the ledger.
    """
    prefix = f"{owner}_limits.max_"
    return {
        f"{prefix}queries": ledger.total_queries,
        f"{prefix}nfe": ledger.nfe,
        f"{prefix}gradients": ledger.gradients,
        f"{prefix}seconds": ledger.seconds if seconds is None else seconds,
    }


def budget_of(reward: str) -> str:
    """Return the option name of a reward's budget."""
    return f"oracle.budgets.{reward}"


def require_room(name: str, limit: float, taken: float, amount: float) -> None:
    """Check that an amount fits beside the amount that is already taken.

    Raises:
        LimitError: It does not fit. The message names the limit.
    """
    if taken + amount > limit:
        raise LimitError(
            f"{name} is {limit:,}: {round(taken, 2):,} are taken, and {round(amount, 2):,} more were needed"
        )
