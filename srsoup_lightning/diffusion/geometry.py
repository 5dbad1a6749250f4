"""Sizes of latents and images."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


class Geometry(NamedTuple):
    """Sizes of a family's latents and images."""

    channels: int  # of a latent
    factor: int  # pixels of an image for each row and column of a latent
    multiple: int  # height and width of an image in pixels must be multiples of it
    native: int  # pixels of the side of the images that the model was trained on

    def latent_shape(self, height: int | None, width: int | None) -> tuple[int, int, int]:
        """Shape (C, H, W) of the latents of an image.

        Args:
            height: Height of the image in pixels; None takes the native side.
            width: Width of the image in pixels; None takes the native side.

        Raises:
            ValueError: A side that is no positive multiple of :attr:`multiple`.
        """
        sides = {"height": height, "width": width}
        given = {name: self.native if side is None else side for name, side in sides.items()}
        for name, side in given.items():
            if side < 1 or side % self.multiple:
                raise ValueError(
                    f"{name} is {side}: this model draws multiples of {self.multiple} pixels, natively {self.native}"
                )
        return self.channels, given["height"] // self.factor, given["width"] // self.factor

    @classmethod
    def of_patches(cls, pipeline: DiffusionPipeline) -> Geometry:
        """Sizes of a transformer whose config gives the side of latents and that of the patches it cuts them into."""
        config, factor = pipeline.transformer.config, pipeline.vae_scale_factor
        return cls(config.in_channels, factor, factor * config.patch_size, config.sample_size * factor)

    @classmethod
    def of_packed(cls, pipeline: DiffusionPipeline) -> Geometry:
        """Sizes of a transformer whose tokens are patches of 2 x 2 latents."""
        factor = pipeline.vae_scale_factor
        channels = pipeline.transformer.config.in_channels // 4
        return cls(channels, factor, 2 * factor, pipeline.default_sample_size * factor)
