"""Wrappers around a reward: counting, retries, a cache and a time limit. Each is built once for each reward."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import ClassVar, NamedTuple, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor

from rewards.checks import first_line
from srsoup_lightning.costs.account import Account
from srsoup_lightning.costs.limits import LimitError, budget_of
from srsoup_lightning.costs.meter import Meter
from srsoup_lightning.oracle.policy import OraclePolicy, RewardError

logger = logging.getLogger(__name__)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Score = Callable[[Tensor, list[str]], Tensor]


class Scorer(Protocol):
    """Interface of a reward, as far as the oracle uses it; see :class:`rewards.Reward`."""

    is_differentiable: bool | None
    on_cpu: ClassVar[bool]
    before_repeat: Callable[[int], None]

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Return scores (B,) of images (B, 3, H, W) in [0, 1]."""

    def check(self) -> None:
        """Make sure that the reward can be asked."""


class Question(NamedTuple):
    """Images that a reward is asked about.

    Attributes:
        images: (B, 3, H, W) in [0, 1].
        prompts: B prompts.
        when: Moment of the run, for error messages, such as "at denoising step 3".
        meter: Meter of the soup.
    """

    images: Tensor
    prompts: list[str]
    when: str
    meter: Meter

    def at(self, indices: list[int]) -> Question:
        """Return the question about some of the images."""
        if len(indices) == len(self.images):
            return self
        return self._replace(images=self.images[indices], prompts=[self.prompts[index] for index in indices])


Ask = Callable[[Question], Tensor]
"""From a question about B images to scores (B,). NaN marks an image without a score."""


def counted(name: str, scorer: Scorer, account: Account, timeout: float | None = None) -> Ask:
    """Count a reward's queries and budget before it is asked, and check its answer.

    The reward gets copies, and its answer is copied too. So it may write into its images, or into a tensor that it
    returned before, and no other picture or score changes.

    The returned function raises a RewardError if the reward raises, exits, takes too long, or returns another shape
    than (B,), and a LimitError if a limit or a budget leaves no room.
    """
    pay = partial(account.pay, budget_of(name))
    refused = set[LimitError]()  # a LimitError of any other origin is a failure of the reward
    score = scorer.score if timeout is None else within(timeout, scorer.score)

    def pay_again(images: int) -> None:
        try:
            pay(images)
        except LimitError as error:
            refused.add(error)
            raise

    def ask(question: Question) -> Tensor:
        images = question.images
        question.meter.count_queries(name, len(images))
        pay(len(images))
        scorer.before_repeat = pay_again  # here, because several modules may share a reward
        try:
            scores = score(images.clone(), list(question.prompts))
        except BaseException as error:
            if error in refused or _ends_run(error):
                refused.clear()
                raise
            reason = f"{type(error).__name__}: {first_line(error)}" if str(error).strip() else type(error).__name__
            raise RewardError(f"reward {name!r} failed {question.when}: {reason}") from error
        if not isinstance(scores, Tensor) or scores.shape != (len(images),):
            found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise RewardError(
                f"reward {name!r} returned {found} {question.when}: score() must return one number an image, "
                f"a tensor of shape ({len(images)},)"
            )
        return scores.clone()

    return ask


def _ends_run(error: BaseException) -> bool:
    """Whether an error is no failure of the reward: a smaller batch may fit, or a signal ends the process.

    Signals raise a KeyboardInterrupt or a subclass of SystemExit. A SystemExit itself is a call of ``sys.exit``.
    """
    stops = isinstance(error, SystemExit) and type(error) is not SystemExit
    return stops or isinstance(error, (torch.OutOfMemoryError, KeyboardInterrupt))


def retrying(name: str, ask: Ask, policy: OraclePolicy) -> Ask:
    """Ask again about images without a finite score, as often as the policy allows.

    The returned function gives float32 scores on the images' device. Under "worst" it gives NaN where the reward failed
    for good. Under "raise" it raises the RewardError of the last attempt, or one that names a score that is not finite.
    """

    def ask_again(question: Question) -> Tensor:
        scores = torch.full((len(question.images),), torch.nan, dtype=torch.float32)
        missing, error = torch.arange(len(scores)), None
        for left in reversed(range(1 + policy.retries)):
            error = None
            try:
                scores[missing] = ask(question.at(missing.tolist())).detach().to(scores)
            except RewardError as failure:
                error = failure
            missing = (~scores.isfinite()).nonzero().flatten()
            if not len(missing):
                return scores.to(question.images.device)
            if error is not None and (left or policy.failing == "worst"):  # otherwise the last one is raised
                logger.warning("%s", error)
        if policy.failing == "raise":
            raise error or not_finite(name, scores[missing[0]].item(), question.when)
        if error is not None and len(missing) > 1:  # one image may have spoiled the answer about all
            _ask_one_by_one(ask, question, missing.tolist(), scores)
        _report_failures(name, scores, question)
        return scores.nan_to_num(torch.nan, torch.nan, torch.nan).to(question.images.device)

    return ask_again


def _ask_one_by_one(ask: Ask, question: Question, indices: list[int], scores: Tensor) -> None:
    """Write the scores of single images into `scores` (B,), where the reward gives them."""
    for index in indices:
        with suppress(RewardError):
            scores[index] = ask(question.at([index])).detach().to(scores)[0]


def not_finite(name: str, score: float, when: str) -> RewardError:
    """Return the error for a score that is not finite."""
    return RewardError(
        f"reward {name!r} returned {score} {when}: score() must return finite numbers; check the reward on that "
        'picture, or let oracle.failing be "worst"'
    )


def _report_failures(name: str, scores: Tensor, question: Question) -> None:
    failed = int((~scores.isfinite()).sum())
    if failed:
        logger.warning("reward %r gave %d of %d pictures no score %s", name, failed, len(scores), question.when)
    question.meter.ledger.failures[name] += failed


def cached(name: str, ask: Ask) -> Ask:
    """Remember the finite scores of images and prompts, and ask about new ones alone."""
    known: dict[bytes, float] = {}

    def ask_once(question: Question) -> Tensor:
        keys = [_key(name, image, prompt) for image, prompt in zip(question.images, question.prompts, strict=True)]
        new = {key: index for index, key in enumerate(keys) if key not in known}
        if new:
            found = zip(new, ask(question.at(list(new.values()))).tolist(), strict=True)
            known.update({key: score for key, score in found if score == score})
        question.meter.ledger.hits[name] += len(keys) - len(new)
        scores = [known.get(key, torch.nan) for key in keys]
        return torch.tensor(scores, dtype=torch.float32, device=question.images.device)

    return ask_once


def _key(name: str, image: Tensor, prompt: str) -> bytes:
    """Hash of a reward's name, an image (3, H, W) and its prompt."""
    pixels = image.detach().float().contiguous().cpu().numpy()
    text = f"{name}\0{prompt}\0{tuple(image.shape)}".encode()
    return hashlib.blake2b(text + pixels.tobytes(), digest_size=16).digest()


def in_background(
    call: Callable[Arguments, Result], *arguments: Arguments.args, **options: Arguments.kwargs
) -> Future[Result]:
    """Run a call in a thread of its own, which a process that ends does not wait for."""
    answer: Future[Result] = Future()

    def work() -> None:
        try:
            answer.set_result(call(*arguments, **options))
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return answer


def within(seconds: float, call: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let a call raise a TimeoutError if it does not return within so many seconds."""

    def limited(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        answer = in_background(call, *arguments, **options)
        try:
            return answer.result(seconds)
        except TimeoutError:
            if answer.done():  # it is the call's own error
                raise
            raise TimeoutError(f"no answer within {seconds:g} s") from None

    return limited
