"""Model that is tuned, and the other weights that it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from torch import Tensor

from srsoup_lightning.diffusion.backbone import Backbone


class Policy:
    """Model whose LoRA is trained. There is one copy of the base model in memory.

    Args:
        backbone: Model with a LoRA.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    def reference(self) -> AbstractContextManager[None]:
        """Context in which the model is the base model, with all LoRAs off."""
        return self.backbone.without_adapters()

    def weights(self) -> dict[str, Tensor]:
        """Copy of the trained weights."""
        return self.backbone.adapter_state()

    def aim(self, quantiles: Sequence[Sequence[float]]) -> None:
        """Make scores of the rewards the input of the adapter; see :meth:`Backbone.aim`."""
        self.backbone.aim(quantiles)

    def acting(self, weights: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """Context in which the model has other trained weights, with the keys and shapes of :meth:`weights`.

        A graph from before may only be used after it.
        """
        return self.backbone.with_adapter_state(weights)
