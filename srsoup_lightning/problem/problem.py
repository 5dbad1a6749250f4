"""The one door to the model and the rewards: chunked to the memory of the device, checked and counted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Literal

import torch
from torch import Tensor

from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.costs.meter import Meter
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.process import BatchSize
from srsoup_lightning.diffusion.transition import Prediction
from srsoup_lightning.oracle import Answers, Question, RewardOracle
from srsoup_lightning.problem.denoising import Denoising, Preview

AnyPreview = Preview | Literal["clean"]


class Problem(Denoising):
    """Denoising process of one prompt and its rewards, as samplers and objectives see them.

    Args:
        denoiser: Model with prompt, guidance and schedule bound.
        oracle: Rewards.
        batch: Largest number of latents that are worked on at once. It is halved where a device runs out of memory.
        prompt: Prompt, for the rewards.
        meter: Meter of the costs. None counts in a new ledger.

    Attributes:
        rewards: Names of the M rewards, in the order of the last axis of every result.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        oracle: RewardOracle,
        batch: BatchSize | int,
        prompt: str = "",
        meter: Meter | None = None,
    ) -> None:
        rewards = tuple(oracle.rewards)
        super().__init__(denoiser, batch, rewards, meter or Meter(Ledger.of(rewards, str(denoiser.device))))
        self.oracle, self.prompt = oracle, prompt

    def with_rewards(self, names: Collection[str]) -> Problem:
        """Return the problem with some of its rewards. Costs are counted in the same ledger."""
        chosen = copy(self)
        chosen.oracle = self.oracle.only(names)
        chosen.rewards = tuple(chosen.oracle.rewards)
        if self.preference is not None:
            chosen.preference = self.preference[[self.rewards.index(name) for name in chosen.rewards]]
        return chosen

    def query(self, clean: Tensor, level: int, asked: Tensor | None = None) -> Tensor:
        """Ask the rewards about clean latents.

        Args:
            clean: Clean latents, (B, C, H, W).
            level: Level of the latents that they were predicted from, for error messages.
            asked: Rewards that each latent is asked about, bool (B, M). None is all.

        Returns:
            Scores (B, M) float32, 0 where not asked.

        Raises:
            RewardError: A reward raised or returned anything but finite numbers.
        """
        if asked is None:
            asked = torch.ones(len(clean), len(self.rewards), dtype=torch.bool, device=self.device)
        return self.query_previews(clean, level, asked, "clean")[0]

    def query_previews(
        self,
        x: Tensor,
        level: int,
        asked: Tensor,
        kind: AnyPreview = "guided",
        noise: Tensor | None = None,
        preferences: Tensor | None = None,
    ) -> tuple[Tensor, Prediction]:
        """Preview latents and ask the rewards about the previews.

        Rewards on the CPU are asked about one chunk while the network previews the next one, so the images of at most
        two chunks exist at once. A latent that no reward is asked about is previewed, but not decoded.

        Arguments and errors are those of :meth:`preview` and :meth:`query`. "clean" latents are their own previews.

        Returns:
            Scores (B, M) float32, 0 where not asked, and the predictions. "clean" latents have no noise.
        """
        previews = Prediction(x if kind == "clean" else torch.empty_like(x), torch.zeros_like(x))
        answers = Answers(self.oracle, self.prompt, asked, f"at denoising step {level}", self.meter)

        def ask_about(rows: Tensor) -> None:
            if kind != "clean":
                reused, served = (None if each is None else each[rows] for each in (noise, preferences))
                previews.x0[rows], previews.noise[rows] = self.preview(x[rows], level, kind, reused, served)
            rows = rows[asked[rows].any(1)]
            if len(rows):
                images = self.denoiser.decode_preview(previews.x0[rows])
                self.ledger.decodes += len(rows)
                answers.ask(images, rows)

        for _ in self.batch.chunks(ask_about, torch.arange(len(asked), device=self.device)):
            pass
        return answers.scores(), previews

    def asking(self, clean: Tensor, level: int, asked: Tensor) -> Callable[[], Tensor]:
        """Ask the rewards about clean latents, as :meth:`query` does, and go on while they work.

        Returns:
            A function that waits for the scores (B, M).
        """
        answers = Answers(self.oracle, self.prompt, asked, f"at denoising step {level}", self.meter)
        answers.ask(self._decoded(self.denoiser.decode_preview, clean), torch.arange(len(clean), device=self.device))
        return answers.scores

    def score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Score final images (B, 3, H, W) in [0, 1]. This is not counted as queries, because every method needs it.

        Returns:
            Scores (B, M), and bool (B, M) that is True where a reward gave none and the worst score stands instead.

        Raises:
            RewardError: See :meth:`query`.
        """
        when, uncounted = "on the final image", Meter(Ledger.of(self.rewards))
        columns = []
        for name in self.rewards:

            def ask(chunk: Tensor, name: str = name) -> Tensor:
                return self.oracle.score(name, Question(chunk, [self.prompt] * len(chunk), when, uncounted))

            columns.append(torch.cat(list(self.batch.chunks(ask, images))))
            self.ledger.failures[name] += uncounted.ledger.failures[name]
        scores = torch.stack(columns, dim=1)
        return self.oracle.complete(scores, torch.ones_like(scores, dtype=torch.bool), when), scores.isnan()

    @contextmanager
    def graph(
        self, method: str, rewards: Sequence[str] | None = None, *, checkpointing: bool = False
    ) -> Iterator[None]:
        """Build the graph of autograd in the block: in `denoise`, `decode`, `encode` and `rewards_of`.

        The block leaves Lightning's inference mode. Latents from outside of it enter by :meth:`variable`.

        Args:
            method: Name of the method, for the error.
            rewards: Rewards whose gradients are needed. None is all, and () is none.
            checkpointing: Keep no activations of the network and the decoder, and compute them again for the gradient
                (Chen et al. 2016, arXiv:1604.06174). This saves memory and costs a third of the time.

        Raises:
            NoGradientError: A reward has no gradient. Nothing was computed then.
        """
        self.oracle.require_gradients(method, list(self.rewards if rewards is None else rewards))
        with self.building_graph(checkpointing):
            yield

    def rewards_of(self, clean: Tensor, level: int, names: Sequence[str] | None = None) -> Tensor:
        """Return rewards (B, M') of clean latents, by name, with the graph, inside :meth:`graph`; see :meth:`query`."""
        images = self._decoded(self.denoiser.decode_preview, clean)
        question = Question(images, [self.prompt] * len(clean), f"at denoising step {level}", self.meter)
        chosen = self.rewards if names is None else names
        return torch.stack([self.oracle.differentiable_score(name, question) for name in chosen], dim=1)
