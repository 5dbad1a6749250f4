"""The MLP that turns an embedding into a score. AestheticScore and ImageReward have it in one shape."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from rewards.networks.loading import require_finite
from rewards.networks.weight_file import require_shapes

_WIDTHS = (1024, 128, 64, 16, 1)
_DROPOUTS = (0.2, 0.2, 0.1)
_PREFIX = "layers."


def linear_head(weights: Mapping[str, Tensor], width: int, name: str) -> nn.Module:
    """The MLP with these weights. It is linear. Its dropouts do nothing here, but count as layers.

    Args:
        weights: The official keys, "layers.0.weight" to "layers.7.bias", and no others.
        width: Length of the embedding.
        name: Origin of the weights, for errors.

    Raises:
        ValueError: If it has other keys or shapes, or a weight is not finite.
    """
    layers: list[nn.Module] = []
    for index, (ins, outs) in enumerate(zip((width, *_WIDTHS), _WIDTHS, strict=False)):
        layers += [nn.Linear(ins, outs), *(nn.Dropout(rate) for rate in _DROPOUTS[index : index + 1])]
    head = nn.Sequential(*layers)
    wanted = {_PREFIX + key: weight.shape for key, weight in head.state_dict().items()}
    require_shapes(weights, wanted, name)
    if unknown := weights.keys() - wanted.keys():
        raise ValueError(f"{name} has the unknown key {min(unknown)}: its keys must be {', '.join(wanted)}.")
    head.load_state_dict({key.removeprefix(_PREFIX): weight for key, weight in weights.items()})
    require_finite(head, name)
    return head
