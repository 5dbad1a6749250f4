"""Oracle of the black-box rewards: it asks them by the rules of a policy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import copy
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from srsoup_lightning.costs.account import Account
from srsoup_lightning.costs.limits import budget_of
from srsoup_lightning.oracle.policy import NoGradientError, OraclePolicy, RewardError, with_worst
from srsoup_lightning.oracle.wrappers import Ask, Question, Scorer, cached, counted, not_finite, retrying


class RewardOracle:
    """Black-box rewards by name.

    Args:
        rewards: Name to reward. Their order is that of the last axis of every result.
        policy: Policy for failing rewards, cached answers and budgets.
        limits: Further limits of the account that counts the budgets, by option name.

    Attributes:
        account: Account of the budgets and limits.
        wrapped: Name to reward, with the policy's wrappers around it.

    Raises:
        ValueError: The policy caches or budgets a reward that is none of these.
    """

    def __init__(
        self,
        rewards: Mapping[str, Scorer],
        policy: OraclePolicy = OraclePolicy(),
        limits: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        for option, names in (("cached", policy.cached), ("budgets", policy.budgets)):
            if unknown := sorted(set(names) - set(rewards)):
                raise ValueError(f"oracle.{option} names {unknown[0]!r}, but the rewards are {', '.join(rewards)}")
        budgets = {budget_of(name): images for name, images in policy.budgets.items()}
        self.rewards, self.policy, self.account = dict(rewards), policy, Account({**limits, **budgets})
        self._wrap()

    def _wrap(self) -> None:
        """Build the wrappers around each reward."""
        timeout, cache = self.policy.timeout, self.policy.cached
        self._counted: dict[str, Ask] = {
            name: counted(name, scorer, self.account, timeout) for name, scorer in self.rewards.items()
        }
        patient = {name: retrying(name, ask, self.policy) for name, ask in self._counted.items()}
        self.wrapped = {name: cached(name, ask) if name in cache else ask for name, ask in patient.items()}

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a copy in another process, without the wrappers, which can't be pickled."""
        return {name: value for name, value in vars(self).items() if name not in ("_counted", "wrapped")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state, and build the wrappers anew, with empty caches."""
        vars(self).update(state)
        self._wrap()

    def only(self, names: Collection[str]) -> RewardOracle:
        """Return an oracle of some of the rewards, with the same account, wrappers and caches."""
        some = copy(self)
        some.rewards = {name: scorer for name, scorer in self.rewards.items() if name in names}
        some._counted, some.wrapped = self._counted, self.wrapped  # a copy builds its own
        return some

    def check(self) -> None:
        """Check that each reward can be asked.

        Raises:
            RewardError: One can't.
        """
        for name, reward in self.rewards.items():
            try:
                reward.check()
            except Exception as error:
                raise RewardError(f"reward {name!r} can't be asked: {error}") from error

    def score(self, name: str, question: Question) -> Tensor:
        """Ask one reward, without gradients.

        Returns:
            (B,) float32 on the images' device. NaN where the reward failed and the policy goes on all the same.

        Raises:
            RewardError: The reward raised, took too long or returned anything but finite numbers.
            LimitError: The reward was not asked, because its budget or a limit leaves no room.
        """
        # A reward may keep a tensor, such as the embedding of a prompt, that a later gradient needs. So no tensor is
        # made in the Trainer's inference mode.
        with torch.inference_mode(False), torch.no_grad():
            return self.wrapped[name](question)

    def complete(self, scores: Tensor, asked: Tensor, when: str) -> Tensor:
        """Replace missing scores (NaN) by the worst one of their reward, if the policy says so.

        Args:
            scores: (B, M).
            asked: Rewards that each image was asked about, bool (B, M).
            when: Moment of the run, for the error.

        Returns:
            (B, M).

        Raises:
            RewardError: A reward has no score to take.
        """
        if self.policy.failing == "raise":
            return scores
        complete = scores.clone()
        for column, name in enumerate(self.rewards):
            rows = asked[:, column]
            if rows.any():
                complete[rows, column] = with_worst(scores[rows, column], name, when)
        return complete

    @property
    def differentiable(self) -> frozenset[str]:
        """Names of the rewards from which gradients flow to the pixels."""
        return frozenset(name for name, reward in self.rewards.items() if reward.is_differentiable)

    def require_gradients(self, method: str, names: list[str]) -> None:
        """Check that gradients flow from rewards to pixels.

        Raises:
            NoGradientError: Some rewards have no gradient. The message names them.
        """
        blocked = [name for name in names if name not in self.differentiable]
        if blocked:
            raise NoGradientError(
                f"{method} needs gradients from rewards to pixels, which {', '.join(map(repr, blocked))} can't give: "
                "leave them out, or take a method that only queries rewards"
            )

    def differentiable_score(self, name: str, question: Question) -> Tensor:
        """Ask one reward once, with the graph of autograd; it counts as queries too.

        Returns:
            (B,) float32.

        Raises:
            RewardError: The reward raised, or returned anything but finite numbers with a gradient.
            LimitError: A budget or a limit leaves no room.
        """
        scores = self._counted[name](question).float()
        odd = scores[~scores.isfinite()]
        if len(odd):
            raise not_finite(name, odd[0].item(), question.when)
        if question.images.requires_grad and not scores.requires_grad:
            raise RewardError(
                f"reward {name!r} says is_differentiable, and its scores have no gradient {question.when}: look in its "
                "score() for no_grad, detach, round or integers"
            )
        return scores
