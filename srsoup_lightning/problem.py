"""The one door to the model and the rewards: chunked to the memory of the device, checked and counted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.costs.meter import Meter
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.process import BatchSize
from srsoup_lightning.diffusion.transition import Prediction
from srsoup_lightning.oracle import Answers, Question, RewardOracle, finite_gradient

Preview = Literal["guided", "unguided", "reused"]
AnyPreview = Preview | Literal["clean"]
Result = TypeVar("Result")


class Problem:
    """Denoising process of one prompt and its rewards, as samplers and objectives see them.

    Args:
        denoiser: Model with prompt, guidance and schedule bound.
        oracle: Rewards.
        batch: Largest number of latents that are worked on at once. It is halved where a device runs out of memory.
        prompt: Prompt, for the rewards.
        meter: Meter of the costs. None counts in a new ledger.

    Attributes:
        rewards: Names of the M rewards, in the order of the last axis of every result.
        kernel: Reverse transitions.
        shape: Shape (C, H, W) of a latent.
        device: Device of the latents.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        oracle: RewardOracle,
        batch: BatchSize | int,
        prompt: str = "",
        meter: Meter | None = None,
    ) -> None:
        self.denoiser, self.oracle, self.prompt = denoiser, oracle, prompt
        self.batch = BatchSize(batch) if isinstance(batch, int) else batch
        self.rewards = tuple(oracle.rewards)
        self.kernel, self.shape, self.device = denoiser.kernel, denoiser.shape, denoiser.device
        self.meter = meter or Meter(Ledger.of(self.rewards, str(denoiser.device)))
        self._graph = self._checkpointing = False

    @property
    def ledger(self) -> Ledger:
        """Record of the costs so far."""
        return self.meter.ledger

    def with_rewards(self, names: Collection[str]) -> Problem:
        """Return the problem with some of its rewards. Costs are counted in the same ledger."""
        return Problem(self.denoiser, self.oracle.only(names), self.batch, self.prompt, self.meter)

    def reschedule(self, num_inference_steps: int, eta: float) -> Problem:
        """Return the problem with another number of denoising steps and eta. Costs are counted in the same ledger."""
        denoiser = self.denoiser.reschedule(num_inference_steps, eta)
        return Problem(denoiser, self.oracle, self.batch, self.prompt, self.meter)

    def denoise(self, x: Tensor, level: int, guided: bool = True) -> Prediction:
        """Return the prediction at latents x (B, C, H, W) of level 0 ... T - 1."""
        denoise = self.denoiser.denoise if guided else self.denoiser.denoise_unguided
        self.meter.count_evaluations(len(x) * (self.denoiser.evaluations if guided else 1))
        with torch.set_grad_enabled(self._graph):
            parts = list(self.batch.chunks(lambda chunk: self._saved(denoise, chunk, level), x))
        return Prediction(torch.cat([part.x0 for part in parts]), torch.cat([part.noise for part in parts]))

    def decode(self, clean: Tensor) -> Tensor:
        """Return images (B, 3, height, width) in [0, 1] of clean latents (B, C, H, W)."""
        return self._decoded(self.denoiser.decode, clean)

    def encode(self, images: Tensor) -> Tensor:
        """Return clean latents (B, C, H, W) of images (B, 3, height, width) in [0, 1]."""
        with torch.set_grad_enabled(self._graph):
            return torch.cat(list(self.batch.chunks(self.denoiser.encode, images)))

    def preview(self, x: Tensor, level: int, kind: Preview = "guided", noise: Tensor | None = None) -> Prediction:
        """Return the prediction at latents of a level; at the cleanest level, x itself without noise.

        Args:
            x: Latents of one level, (B, C, H, W).
            level: Their level, 0 ... T.
            kind: "guided" is the Tweedie estimate. "unguided" is the same without classifier-free guidance, at half the
                network evaluations. "reused" takes `noise` for the noise in x and evaluates nothing.
            noise: Noise (B, C, H, W) that was predicted where x comes from, for "reused" alone.

        Raises:
            ValueError: "reused" is asked for without noise, or at a level without signal.
        """
        if level == self.kernel.steps:
            return Prediction(x, torch.zeros_like(x))
        if kind == "reused":
            if noise is None:
                raise ValueError('a "reused" preview needs the noise predicted where the candidates come from')
            return Prediction(self.kernel.clean(level, x, noise), noise)
        return self.denoise(x, level, guided=kind == "guided")

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
                reused = None if noise is None else noise[rows]
                previews.x0[rows], previews.noise[rows] = self.preview(x[rows], level, kind, reused)
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
        with torch.inference_mode(False), torch.enable_grad():
            self._graph, self._checkpointing = True, checkpointing
            try:
                yield
            finally:
                self._graph = self._checkpointing = False

    def variable(self, x: Tensor) -> Tensor:
        """Return a copy of x that gradients can be taken with respect to, inside :meth:`graph`."""
        return x.detach().clone().requires_grad_()

    def rewards_of(self, clean: Tensor, level: int, names: Sequence[str] | None = None) -> Tensor:
        """Return rewards (B, M') of clean latents, by name, with the graph, inside :meth:`graph`; see :meth:`query`."""
        images = self._decoded(self.denoiser.decode_preview, clean)
        question = Question(images, [self.prompt] * len(clean), f"at denoising step {level}", self.meter)
        chosen = self.rewards if names is None else names
        return torch.stack([self.oracle.differentiable_score(name, question) for name in chosen], dim=1)

    def gradient(self, value: Tensor, x: Tensor, of: str, retain_graph: bool = False, predictions: int = 1) -> Tensor:
        """Return the gradient (B, ...) of each value (B,) with respect to the latents x (B, ...), detached.

        Args:
            value: Values, each of which depends on its own latents alone.
            x: Latents from :meth:`variable`.
            of: Name of the value, for the RewardError of a gradient that is not finite.
            retain_graph: Keep the graph for another gradient.
            predictions: Number of predictions on the way from x to a value. Each counts as a gradient evaluation.
        """
        self.meter.count_gradients(predictions * len(x))
        return finite_gradient(torch.autograd.grad(value.sum(), x, retain_graph=retain_graph)[0], of)

    def _decoded(self, decode: Callable[[Tensor], Tensor], clean: Tensor) -> Tensor:
        self.ledger.decodes += len(clean)
        with torch.set_grad_enabled(self._graph):
            return torch.cat(list(self.batch.chunks(lambda chunk: self._saved(decode, chunk), clean)))

    def _saved(self, work: Callable[..., Result], *inputs: object) -> Result:
        """Call `work`. Under checkpointing, none of its activations are kept."""
        return checkpoint(work, *inputs, use_reentrant=False) if self._checkpointing else work(*inputs)
