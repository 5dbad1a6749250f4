"""The model of one prompt: predictions and pictures, chunked to the memory of the device, and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from typing import Literal, Self, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.costs.meter import Meter
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.process import BatchSize
from srsoup_lightning.diffusion.transition import Prediction
from srsoup_lightning.oracle import finite_gradient

Preview = Literal["guided", "unguided", "reused"]
Result = TypeVar("Result")


class Denoising:
    """Denoising process of one prompt.

    Args:
        denoiser: Model with prompt, guidance and schedule bound.
        batch: Largest number of latents that are worked on at once. It is halved where a device runs out of memory.
        rewards: Names of the rewards, in the order of a preference's weights.
        meter: Meter of the costs.

    Attributes:
        kernel: Reverse transitions.
        shape: Shape (C, H, W) of a latent.
        device: Device of the latents.
        chance: Returns the random number in [0, 1) of a level, by which adapters are drawn.
        preference: Weights (M,) of the preference that predictions serve where nothing else is said.
    """

    chance: Callable[[int], float] = staticmethod(lambda level: 0.5)
    preference: Tensor | None = None

    def __init__(self, denoiser: Denoiser, batch: BatchSize | int, rewards: Sequence[str], meter: Meter) -> None:
        self.denoiser, self.rewards, self.meter = denoiser, tuple(rewards), meter
        self.batch = BatchSize(batch) if isinstance(batch, int) else batch
        self.kernel, self.shape, self.device = denoiser.kernel, denoiser.shape, denoiser.device
        self._graph = self._checkpointing = False

    @property
    def ledger(self) -> Ledger:
        """Record of the costs so far."""
        return self.meter.ledger

    def reschedule(self, num_inference_steps: int, eta: float) -> Self:
        """Return it with another number of denoising steps and eta. Costs are counted in the same ledger, as below."""
        changed = copy(self)
        changed.denoiser = self.denoiser.reschedule(num_inference_steps, eta)
        changed.kernel = changed.denoiser.kernel
        return changed

    def serving(self, preference: Tensor) -> Self:
        """Return it with predictions that serve a preference (M,), where adapters make them depend on it."""
        served = copy(self)
        served.preference = preference.to(self.device)
        return served

    def drawing(self, chance: Callable[[int], float]) -> Self:
        """Return it with other random numbers by which adapters are drawn."""
        changed = copy(self)
        changed.chance = chance
        return changed

    def denoise(self, x: Tensor, level: int, guided: bool = True, preferences: Tensor | None = None) -> Prediction:
        """Return the predictions at latents.

        Args:
            x: Latents (B, C, H, W).
            level: Their level, 0 ... T - 1.
            guided: Whether there is classifier-free guidance.
            preferences: Preference (B, M) of each latent, where adapters make predictions depend on it. None is
                :attr:`preference` for all.
        """
        bound = self.denoiser.adapters
        if bound is None:
            return self.evaluate(x, level, guided)
        if preferences is None:
            if self.preference is None:
                raise ValueError("predictions depend on the preference, and none is given: call its method serving")
            preferences = self.preference.expand(len(x), -1)
        evaluations = bound.policy.evaluations(self.rewards, preferences, self.chance(level))
        found = self.evaluate(x[evaluations.latents], level, guided, evaluations.inputs)
        return Prediction(*map(evaluations.combined, found))

    def evaluate(self, x: Tensor, level: int, guided: bool, inputs: Tensor | None = None) -> Prediction:
        """Evaluate the network at latents x (B, C, H, W), with inputs (B, K + M) of its adapters, if it has any."""
        denoise = self.denoiser.denoise if guided else self.denoiser.denoise_unguided
        bound = self.denoiser.adapters

        def some(rows: Tensor) -> Prediction:
            with nullcontext() if bound is None or inputs is None else bound.given(inputs[rows]):
                return denoise(x[rows], level)

        self.meter.count_evaluations(len(x) * (self.denoiser.evaluations if guided else 1))
        rows = torch.arange(len(x), device=x.device)
        with torch.set_grad_enabled(self._graph):
            parts = list(self.batch.chunks(lambda chunk: self._saved(some, chunk), rows))
        return Prediction(torch.cat([part.x0 for part in parts]), torch.cat([part.noise for part in parts]))

    def decode(self, clean: Tensor) -> Tensor:
        """Return images (B, 3, height, width) in [0, 1] of clean latents (B, C, H, W)."""
        return self._decoded(self.denoiser.decode, clean)

    def encode(self, images: Tensor) -> Tensor:
        """Return clean latents (B, C, H, W) of images (B, 3, height, width) in [0, 1]."""
        with torch.set_grad_enabled(self._graph):
            return torch.cat(list(self.batch.chunks(self.denoiser.encode, images)))

    def preview(
        self,
        x: Tensor,
        level: int,
        kind: Preview = "guided",
        noise: Tensor | None = None,
        preferences: Tensor | None = None,
    ) -> Prediction:
        """Return the prediction at latents of a level; at the cleanest level, x itself without noise.

        Args:
            x: Latents of one level, (B, C, H, W).
            level: Their level, 0 ... T.
            kind: "guided" is the Tweedie estimate. "unguided" is the same without classifier-free guidance, at half the
                network evaluations. "reused" takes `noise` for the noise in x and evaluates nothing.
            noise: Noise (B, C, H, W) that was predicted where x comes from, for "reused" alone.
            preferences: Preference (B, M) of each latent, see :meth:`denoise`.

        Raises:
            ValueError: "reused" is asked for without noise, or at a level without signal.
        """
        if level == self.kernel.steps:
            return Prediction(x, torch.zeros_like(x))
        if kind == "reused":
            if noise is None:
                raise ValueError('a "reused" preview needs the noise predicted where the candidates come from')
            return Prediction(self.kernel.clean(level, x, noise), noise)
        return self.denoise(x, level, kind == "guided", preferences)

    @contextmanager
    def building_graph(self, checkpointing: bool) -> Iterator[None]:
        """Build the graph of autograd in the block, outside of Lightning's inference mode."""
        with torch.inference_mode(False), torch.enable_grad():
            self._graph, self._checkpointing = True, checkpointing
            try:
                yield
            finally:
                self._graph = self._checkpointing = False

    def variable(self, x: Tensor) -> Tensor:
        """Return a copy of x that gradients can be taken with respect to, inside :meth:`graph`."""
        return x.detach().clone().requires_grad_()

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
