"""A text-to-image model as samplers see it."""

from __future__ import annotations

import abc

from torch import nn

from srsoup_lightning.diffusion.denoiser import Denoiser


class Backbone(nn.Module, abc.ABC):
    """A text-to-image model; its networks are submodules, so a Trainer moves them to its device."""

    @abc.abstractmethod
    def bind(
        self, prompt: str, *, num_inference_steps: int, guidance_scale: float, eta: float, negative_prompt: str = ""
    ) -> Denoiser:
        """The denoising process of one prompt.

        Args:
            prompt: What to draw; words beyond the text encoder's length are dropped with a warning.
            num_inference_steps: The number T of denoising steps.
            guidance_scale: Classifier-free guidance; 1 turns it off.
            eta: Share of the noise that is drawn anew in each step, in [0, 1].
            negative_prompt: What guidance leads away from; "" is what the pipeline leads away from without one.

        Raises:
            ValueError: More steps than the model was trained on.
        """
