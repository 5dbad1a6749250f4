"""Adapters whose strength and whose preference differ from row to row of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class RowInputs:
    """Inputs of the adapters for the rows of the batch under way.

    Args:
        adapters: Number K of adapters, whose scales are the first columns. Further columns are the preference.
    """

    def __init__(self, adapters: int) -> None:
        self.adapters = adapters
        self._values: Tensor | None = None

    @contextmanager
    def given(self, values: Tensor) -> Iterator[None]:
        """Give inputs (R, K + M) for the batches of R rows in the block, and of multiples of it under guidance."""
        before, self._values = self._values, values
        try:
            yield
        finally:
            self._values = before

    def column(self, adapter: int, like: Tensor) -> Tensor:
        """Return the scales (B, 1, ...) of an adapter for the rows of `like` (B, ...).

        Raises:
            RuntimeError: No inputs are given.
        """
        return self._rows(like)[:, adapter].view(-1, *[1] * (like.ndim - 1))

    def preference(self, like: Tensor) -> Tensor:
        """Return the preferences (B, M) for the rows of `like` (B, ...); errors are those of :meth:`column`."""
        return self._rows(like)[:, self.adapters :]

    def _rows(self, like: Tensor) -> Tensor:
        if self._values is None:
            raise RuntimeError("the adapters have no inputs: call the network through a Problem that has preferences")
        return self._values.to(like).repeat(len(like) // len(self._values), 1)


class RowScale:
    """Scale of an adapter in one layer: peft multiplies the layer's update by it.

    Args:
        inputs: Inputs of the rows.
        adapter: Index of the adapter.
        scaling: Scale that the adapter was trained with, alpha / rank.
    """

    def __init__(self, inputs: RowInputs, adapter: int, scaling: float) -> None:
        self.inputs, self.adapter, self.scaling = inputs, adapter, scaling

    def __rmul__(self, update: Tensor) -> Tensor:
        return update * (self.scaling * self.inputs.column(self.adapter, update))


def scale_by_row(network: nn.Module, names: Sequence[str], inputs: RowInputs) -> None:
    """Let each row of a batch have its own scale of each LoRA of a network.

    Args:
        network: A denoising network with these LoRAs, all of them active.
        names: Names of the LoRAs, in the order of the columns of the inputs.
        inputs: Inputs of the rows.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: list[Any] = [layer for layer in network.modules() if isinstance(layer, BaseTunerLayer)]
    for layer in layers:
        for adapter, name in enumerate(names):
            if name in layer.scaling:
                layer.scaling[name] = RowScale(inputs, adapter, layer.scaling[name])
