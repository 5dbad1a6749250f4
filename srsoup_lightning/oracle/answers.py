"""Scores of latents that arrive one after the other, while the network works on."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import NamedTuple

import torch
from torch import Tensor

from srsoup_lightning.costs.meter import Meter
from srsoup_lightning.oracle.oracle import RewardOracle
from srsoup_lightning.oracle.wrappers import Question, in_background


class _Answer(NamedTuple):
    rows: Tensor
    column: int
    scores: Future[Tensor]


class Answers:
    """Scores of B latents by M rewards. Their images are handed over in parts.

    Rewards on the CPU answer in the background, each one call after the other, so that the network works meanwhile. The
    others answer at once.

    Args:
        oracle: Rewards.
        prompt: Prompt of all images.
        asked: Rewards that each latent is asked about, bool (B, M).
        when: Moment of the run, for errors.
        meter: Meter of the queries.
    """

    def __init__(self, oracle: RewardOracle, prompt: str, asked: Tensor, when: str, meter: Meter) -> None:
        self.oracle, self.prompt, self.asked, self.when, self.meter = oracle, prompt, asked, when, meter
        self._turns = {name: threading.Lock() for name, scorer in oracle.rewards.items() if scorer.on_cpu}
        self._awaited = list[_Answer]()
        self._scores = torch.zeros(asked.shape, dtype=torch.float32, device=asked.device)

    def ask(self, images: Tensor, rows: Tensor) -> None:
        """Ask about images (K, 3, height, width) in [0, 1] of the latents with these indices (K,).

        Answers about the images of the call before are awaited, so that the images of at most two calls exist at once.

        Raises:
            RewardError: A reward raised or returned anything but finite numbers.
            LimitError: A budget or a limit leaves no room.
        """
        answers = []
        for column, name in enumerate(self.oracle.rewards):
            chosen = self.asked[rows, column]
            if not chosen.any():
                continue
            question = Question(images[chosen], [self.prompt] * int(chosen.sum()), self.when, self.meter)
            if name in self._turns:
                answer = in_background(self._score_in_turn, name, question)
            else:
                answer = Future()
                with torch.inference_mode(False), torch.no_grad():  # as in RewardOracle.score
                    answer.set_result(self.oracle.wrapped[name](question))
            answers.append(_Answer(rows[chosen], column, answer))
        before, self._awaited = self._awaited, answers
        self._collect(before)

    def scores(self) -> Tensor:
        """Return the scores (B, M) float32 when all of them are there, 0 where not asked. Errors are those of `ask`."""
        awaited, self._awaited = self._awaited, []
        self._collect(awaited)
        return self.oracle.complete(self._scores, self.asked, self.when)

    def _score_in_turn(self, name: str, question: Question) -> Tensor:
        with self._turns[name]:
            return self.oracle.score(name, question)

    def _collect(self, answers: list[_Answer]) -> None:
        for answer in answers:
            self._scores[answer.rows, answer.column] = answer.scores.result()
