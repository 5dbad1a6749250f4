"""What a sampler may ask, chunked to the device's size, checked, and counted where it happens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Literal, TypeVar

import torch
from torch import Tensor

from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.transition import Prediction
from srsoup_lightning.oracle.oracle import RewardOracle
from srsoup_lightning.oracle.policy import with_worst

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
Preview = Literal["guided", "unguided", "reused"]


Answer = tuple[Tensor, int, "Future[Tensor]"]  # rows, column, scores


class Problem:
    """One prompt's denoising process and its black-box rewards.

    Args:
        denoiser: The model with prompt, guidance and schedule bound.
        judges: The rewards, checked.
        max_batch: How many latents the network, the decoder and the rewards see at once, at least 1; halved whenever
            a device's memory runs out.
        prompt: What the rewards are told.
    """

    def __init__(self, denoiser: Denoiser, judges: RewardOracle, max_batch: int, prompt: str = "") -> None:
        self.denoiser, self.judges, self.max_batch, self.prompt = denoiser, judges, max_batch, prompt
        self.rewards = tuple(judges.rewards)
        self.kernel, self.shape, self.device = denoiser.kernel, denoiser.shape, denoiser.device
        self.ledger = Ledger.of(self.rewards, str(denoiser.device))

    def denoise(self, x: Tensor, level: int) -> Prediction:
        """The prediction at latents x (B, C, H, W) of level 0 ... T - 1."""
        self.ledger.count_evaluations(len(x) * self.denoiser.evaluations)
        parts = list(self._in_chunks(lambda chunk: self.denoiser.denoise(chunk, level), x))
        return Prediction(torch.cat([part.x0 for part in parts]), torch.cat([part.noise for part in parts]))

    def decode(self, latents: Tensor) -> Tensor:
        """Clean latents (B, C, H, W) to images (B, 3, height, width) in [0, 1]."""
        self.ledger.decodes += len(latents)
        return torch.cat(list(self._in_chunks(self.denoiser.decode, latents)))

    def estimate(self, x: Tensor, level: int, kind: Preview = "guided", noise: Tensor | None = None) -> Tensor:
        """The clean latents (B, C, H, W) that latents x of a level are heading for; at the cleanest level x itself.

        Args:
            x: Latents of one level, (B, C, H, W).
            level: Their level, 0 ... T.
            kind: "guided" is the Tweedie estimate; "unguided" the same without classifier-free guidance, at half the
                network evaluations; "reused" takes `noise` for the noise in x and evaluates nothing.
            noise: The noise predicted where the candidates come from, (B, C, H, W); for "reused" alone.

        Raises:
            ValueError: "reused" without noise, or at a level without signal.
        """
        if level == self.kernel.steps:
            return x
        if kind == "reused":
            if noise is None:
                raise ValueError('a "reused" preview needs the noise predicted where the candidates come from')
            return self.kernel.clean(level, x, noise)
        if kind == "unguided":
            self.ledger.count_evaluations(len(x))
            return self.denoiser.denoise_unguided(x, level).x0
        return self.denoise(x, level).x0

    def query(
        self, x: Tensor, level: int, asked: Tensor, kind: Preview = "guided", noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Rewards of latents by their previews; never more than two chunks' images live.

        A latent that asks nothing is previewed, but not decoded.

        Args:
            x: Latents of one level, (B, C, H, W).
            level: Their level, 0 ... T.
            asked: Which latent asks which reward, bool (B, M).
            kind: How previews are made, see :meth:`estimate`.
            noise: See :meth:`estimate`.

        Returns:
            Scores (B, M) float32, 0 where not asked, and the clean latents (B, C, H, W) that were previewed.

        Raises:
            RewardError: A reward raised or returned something other than finite numbers.
        """
        clean = torch.empty_like(x)

        def preview(rows: Tensor) -> Tensor:
            clean[rows] = self.estimate(x[rows], level, kind, None if noise is None else noise[rows])
            return clean[rows]

        return self._ask(preview, asked, level), clean

    def judge(self, clean: Tensor, level: int) -> Tensor:
        """All rewards (B, M) float32 of clean latents (B, C, H, W), the previews of latents of a level.

        Raises:
            RewardError: A reward raised or returned something other than finite numbers.
        """
        everything = torch.ones(len(clean), len(self.rewards), dtype=torch.bool, device=self.device)
        return self._ask(lambda rows: clean[rows], everything, level)

    def _ask(self, preview: Callable[[Tensor], Tensor], asked: Tensor, level: int) -> Tensor:
        """Scores (B, M) where asked (B, M), of what `preview` says the latents of some rows are heading for."""
        when = f"at denoising step {level}"
        ask = self.judges.asking(self.prompt, when, self.ledger)

        def ask_about(rows: Tensor) -> list[Answer]:
            wanted = asked[rows].any(1)
            clean, rows = preview(rows)[wanted], rows[wanted]
            if not len(rows):
                return []
            images = self.denoiser.decode_preview(clean)
            self.ledger.decodes += len(rows)
            columns = [(column, name) for column, name in enumerate(self.rewards) if asked[rows, column].any()]
            chosen = [asked[rows, column] for column, _ in columns]
            return [(rows[c], column, ask(name, images[c])) for (column, name), c in zip(columns, chosen, strict=True)]

        scores = torch.zeros(asked.shape, device=self.device)
        awaited: list[Answer] = []
        for answers in self._in_chunks(ask_about, torch.arange(len(asked), device=self.device)):
            _write_down(awaited, scores)  # a chunk late, so that its images were judged beside this one's network
            awaited = answers
        _write_down(awaited, scores)
        return self._complete(scores, asked, when)

    def score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of final images: not counted as queries, since every method's results need them.

        Args:
            images: (B, 3, H, W) in [0, 1].

        Returns:
            Scores (B, M), and bool (B, M) that is true where the reward gave none and the worst one stands instead.

        Raises:
            RewardError: A reward raised or returned something other than finite numbers.
        """
        when, uncounted = "on the final image", Ledger.of(self.rewards)
        columns = []
        for name in self.rewards:
            answers = self._in_chunks(partial(self._final_scores, name, when, uncounted), images)
            columns.append(torch.cat(list(answers)))
            self.ledger.failures[name] += uncounted.failures[name]
        scores = torch.stack(columns, dim=1)
        return self._complete(scores, torch.ones_like(scores, dtype=torch.bool), when), scores.isnan()

    def _final_scores(self, name: str, when: str, ledger: Ledger, images: Tensor) -> Tensor:
        return self.judges.score(name, images, [self.prompt] * len(images), when, ledger)

    def _in_chunks(self, work: Callable[[Tensor], Result], rows: Tensor) -> Iterator[Result]:
        """What `work` makes of portions of the rows (B, ...), of half the size from where memory runs out."""
        start = 0
        while start < len(rows):
            chunk = rows[start : start + self.max_batch]
            try:
                result = work(chunk)
            except torch.OutOfMemoryError:
                if len(chunk) == 1:
                    raise
                self.max_batch = len(chunk) // 2
                logger.warning("out of memory with a batch of %d: going on with %d", len(chunk), self.max_batch)
                torch.cuda.empty_cache()
                continue
            yield result
            start += len(chunk)

    def _complete(self, scores: Tensor, asked: Tensor, when: str) -> Tensor:
        """Scores (B, M) with each reward's worst one where it was asked, bool (B, M), but gave none (NaN)."""
        if self.judges.policy.failing == "raise":
            return scores
        complete = scores.clone()
        for column, name in enumerate(self.rewards):
            rows = asked[:, column]
            if rows.any():
                complete[rows, column] = with_worst(scores[rows, column], name, when)
        return complete


def _write_down(answers: list[Answer], scores: Tensor) -> None:
    for rows, column, answer in answers:
        scores[rows, column] = answer.result()
