"""What to do about judges that fail: end the run, ask again, or take the worst score of the others."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal, ParamSpec, TypeVar, get_args

import torch
from torch import Tensor

logger = logging.getLogger(__name__)
Failing = Literal["raise", "worst"]
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class RewardError(RuntimeError):
    """A reward raised, took too long, or returned something that is not one finite number an image."""


@dataclass(frozen=True)
class OraclePolicy:
    """How patient a run is with its rewards, and what it remembers of their answers.

    Args:
        failing: What happens when a reward still fails after all retries: "raise" ends the run and keeps what is
            finished; with "worst" a picture without a score gets the worst one among the pictures that were judged
            with it (the candidates of a denoising step, or the final pictures of a soup). The ledger counts these
            pictures as ``failures``, and final ones are named in samples.jsonl.
        retries: How often a reward is asked again about pictures that it failed on; each time counts as queries.
        timeout: Seconds after which a call to a reward has failed; None waits. A call out of time cannot be stopped,
            only left alone.
        cached: Names of rewards that are never asked twice about the same picture and prompt in one process: for
            judges that cost more than the comparison of pictures. The ledger counts their answers from memory as
            ``hits``, apart from ``queries``.
        budgets: {reward: images}: how many images a paid reward may be sent in the whole run at most, candidates, final
            pictures and whatever is sent again. All processes count together, and so do the parts of a run that goes
            on, where a SampleWriter keeps the count in the run directory; without one the module counts for itself.
            When a budget is spent, the soup under way is abandoned, and the run ends.

    Raises:
        ValueError: An argument that is none of those.
    """

    failing: Failing = "raise"
    retries: int = 0
    timeout: float | None = None
    cached: Sequence[str] = ()
    budgets: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.failing not in get_args(Failing):
            raise ValueError(f"failing is {self.failing!r}: choose one of {', '.join(get_args(Failing))}")
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}: give 0 or more")
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout is {self.timeout}: give seconds above 0, or None to wait")
        for name, images in self.budgets.items():
            if images < 1:
                raise ValueError(f"the budget of {name!r} is {images}: give at least 1 image, or leave it out")


def patient_scores(ask: Callable[[Tensor], Tensor], count: int, policy: OraclePolicy) -> Tensor:
    """Scores of some pictures, asked for as often as the policy allows.

    Args:
        ask: From the places (K,) of some of the pictures to their scores (K,), raising RewardError if it has none;
            a score that is not finite is none either.
        count: The number B of pictures.
        policy: The policy.

    Returns:
        Scores (B,) float32; under "worst", NaN where the reward failed for good.

    Raises:
        RewardError: Under "raise", what the last attempt died of; NaN or infinity is left to the caller to name.
    """
    scores = torch.full((count,), torch.nan)
    missing = torch.arange(count)
    fault: RewardError | None = None
    for left in reversed(range(1 + policy.retries)):
        fault = _attempt(ask, missing, scores)
        missing = (~scores.isfinite()).nonzero().flatten()
        if not len(missing):
            return scores
        if fault is not None and (left or policy.failing == "worst"):  # the last is raised otherwise
            logger.warning("%s", fault)
    if fault is None:
        return scores
    if policy.failing == "raise":
        raise fault
    if len(missing) > 1:  # one picture may have spoiled the answer about all
        for place in missing:
            _attempt(ask, place[None], scores)
    return scores


def _attempt(ask: Callable[[Tensor], Tensor], places: Tensor, scores: Tensor) -> RewardError | None:
    """Write the scores of `places` into `scores`, or say why there are none."""
    try:
        scores[places] = ask(places).to(scores)
    except RewardError as fault:
        return fault
    return None


def with_worst(scores: Tensor, name: str, when: str) -> Tensor:
    """Scores (B,) of a reward with the worst of them where it gave none (NaN).

    Raises:
        RewardError: If it gave none at all.
    """
    missing = scores.isnan()
    if not missing.any():
        return scores
    if missing.all():
        raise RewardError(
            f"reward {name!r} failed on all {len(scores)} pictures {when}, so that there is no worst score to take: "
            "check the reward, or raise its retries"
        )
    return torch.where(missing, scores[~missing].min(), scores)


def in_background(
    call: Callable[Arguments, Result], *arguments: Arguments.args, **options: Arguments.kwargs
) -> Future[Result]:
    """The call's answer from a thread of its own, which a process that ends does not wait for."""
    answer: Future[Result] = Future()

    def work() -> None:
        try:
            answer.set_result(call(*arguments, **options))
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return answer


def within(
    seconds: float | None,
    call: Callable[Arguments, Result],
    *arguments: Arguments.args,
    **options: Arguments.kwargs,
) -> Result:
    """The call's answer if it comes in time; None waits for it.

    Raises:
        TimeoutError: It doesn't come in time.
    """
    if seconds is None:
        return call(*arguments, **options)
    answer = in_background(call, *arguments, **options)
    try:
        return answer.result(seconds)
    except TimeoutError:
        if answer.done():  # the call's own
            raise
        raise TimeoutError(f"no answer within {seconds:g} s") from None
