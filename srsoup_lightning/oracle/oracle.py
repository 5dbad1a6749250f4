"""The rewards as samplers ask them: checked, remembered, and beside the network's work if they need the CPU alone."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from types import MappingProxyType

import torch
from torch import Tensor

from srsoup_lightning.costs.account import Account, LimitError, budget_of
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.oracle.policy import OraclePolicy, RewardError, in_background, patient_scores, within

logger = logging.getLogger(__name__)
Score = Callable[[Tensor, list[str]], Tensor]
Ask = Callable[[str, Tensor], "Future[Tensor]"]


class RewardOracle:
    """Black-box rewards by name.

    Args:
        rewards: Name to a function from images (B, 3, H, W) in [0, 1] and their B prompts to scores (B,); the order is
            that of every result's last axis.
        on_cpu: Names of those that work on the CPU wherever the images are, so that the network needn't wait for them.
        policy: What happens when one fails, whose answers are remembered, and how many there may be.
        bounds: What else is counted in the account of the budgets, by name.

    Raises:
        ValueError: `policy` remembers the answers of a reward that is none of these, or gives it a budget.
    """

    def __init__(
        self,
        rewards: Mapping[str, Score],
        on_cpu: Collection[str] = (),
        policy: OraclePolicy = OraclePolicy(),
        bounds: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        for option, names in (("cached", policy.cached), ("budgets", policy.budgets)):
            if unknown := sorted(set(names) - set(rewards)):
                raise ValueError(f"oracle.{option} names {unknown[0]!r}, but the rewards are {', '.join(rewards)}")
        self.account = Account({**bounds, **{budget_of(name): most for name, most in policy.budgets.items()}})
        self.rewards, self.on_cpu, self.policy = dict(rewards), frozenset(on_cpu), policy
        self._known: dict[bytes, float] = {}

    def score(self, name: str, images: Tensor, prompts: Sequence[str], when: str, ledger: Ledger) -> Tensor:
        """One reward's scores of images, by asking it or from memory.

        Args:
            name: Which reward.
            images: (B, 3, H, W) in [0, 1].
            prompts: B of them.
            when: Said in the message of an error.
            ledger: Where queries, hits and failures are counted.

        Returns:
            (B,) float32 on the images' device; NaN where the reward failed and `policy` goes on all the same.

        Raises:
            RewardError: It raised, took too long or returned something other than finite numbers.
            LimitError: It was not asked, for that would go beyond its budget or another bound.
        """
        if name not in self.policy.cached:
            return self._scores(name, images, prompts, when, ledger)
        keys = [_key(name, image, prompt) for image, prompt in zip(images, prompts, strict=True)]
        new = {key: place for place, key in enumerate(keys) if key not in self._known}
        if new:
            places = list(new.values())
            scores = self._scores(name, images[places], [prompts[place] for place in places], when, ledger)
            found = dict(zip(new, scores.tolist(), strict=True))
            self._known |= {key: score for key, score in found.items() if score == score}
        ledger.hits[name] += len(keys) - len(new)
        return torch.tensor([self._known.get(key, torch.nan) for key in keys], device=images.device)

    def _scores(self, name: str, images: Tensor, prompts: Sequence[str], when: str, ledger: Ledger) -> Tensor:
        """As :meth:`score`, but always asked."""

        def ask(places: Tensor) -> Tensor:
            chosen = places.tolist()
            some = images if len(chosen) == len(images) else images[chosen]
            ledger.count_queries(name, len(chosen))
            self.account.pay(budget_of(name), len(chosen))
            return self._answer(name, some, [prompts[place] for place in chosen], when)

        scores = patient_scores(ask, len(images), self.policy)
        odd = scores[~scores.isfinite()]
        if len(odd) and self.policy.failing == "raise":
            raise RewardError(
                f"reward {name!r} returned {odd[0].item()} {when}: score() must return finite numbers; check the "
                'reward on that picture, or let oracle.failing be "worst"'
            )
        if len(odd):
            logger.warning("reward %r gave %d of %d pictures no score %s", name, len(odd), len(images), when)
        ledger.failures[name] += len(odd)
        return scores.nan_to_num(torch.nan, torch.nan, torch.nan).to(images.device)

    def _answer(self, name: str, images: Tensor, prompts: list[str], when: str) -> Tensor:
        try:
            scores = within(self.policy.timeout, self.rewards[name], images, prompts)
        except (torch.OutOfMemoryError, LimitError):  # a smaller batch may have room; what is refused has not failed
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".: ")
            raise RewardError(f"reward {name!r} failed {when}: {reason}") from error
        if not isinstance(scores, Tensor) or scores.shape != (len(images),):
            found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise RewardError(
                f"reward {name!r} returned {found} {when}: score() must return one number an image, "
                f"a tensor of shape ({len(images)},)"
            )
        return scores.detach()

    def asking(self, prompt: str, when: str, ledger: Ledger) -> Ask:
        """A function from a reward and images of the prompt to an answer that may still be on its way.

        Rewards on the CPU work in the background, each on one batch at a time; the others answer at once.
        """
        turns = {name: threading.Lock() for name in self.on_cpu}

        def score(name: str, images: Tensor) -> Tensor:
            return self.score(name, images, [prompt] * len(images), when, ledger)

        def score_in_turn(name: str, images: Tensor) -> Tensor:
            with turns[name]:
                return score(name, images)

        def ask(name: str, images: Tensor) -> Future[Tensor]:
            if name in self.on_cpu:
                return in_background(score_in_turn, name, images)
            answer: Future[Tensor] = Future()
            answer.set_result(score(name, images))
            return answer

        return ask


def _key(name: str, image: Tensor, prompt: str) -> bytes:
    """Tells pictures, prompts and rewards apart."""
    pixels = image.detach().float().contiguous().cpu().numpy()
    text = f"{name}\0{prompt}\0{tuple(image.shape)}".encode()
    return hashlib.blake2b(text + pixels.tobytes(), digest_size=16).digest()
