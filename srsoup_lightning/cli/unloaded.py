"""Stand-in for the rewards of a config whose models are not loaded."""

from __future__ import annotations

from pydoc import locate

from jsonargparse import Namespace
from torch import Tensor

from rewards import Reward


class Unloaded(Reward):
    """Stand-in for a reward whose model is not loaded. A plan counts its queries without asking it.

    Args:
        differentiable: Whether the reward has gradients.
    """

    def __init__(self, differentiable: bool = False) -> None:
        super().__init__()
        self._differentiable = differentiable

    @property
    def is_differentiable(self) -> bool:  # type: ignore[override]
        """Whether the reward has gradients."""
        return self._differentiable

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Raise an error: there is no model to score with.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError("this reward stands for another in a plan and scores nothing: load the one it stands for")


UNLOADED = f"{Unloaded.__module__}.{Unloaded.__qualname__}"


def declares_gradients(reward: Namespace) -> bool:
    """Return whether the class of a reward in a config, or what it wraps, says that it has gradients."""
    declared = getattr(locate(reward.class_path), "is_differentiable", False)
    if not isinstance(declared, property):
        return bool(declared)
    given = vars(reward.init_args) if "init_args" in reward else {}
    wrapped = [part for part in given.values() if isinstance(part, Namespace) and "class_path" in part]
    return bool(given.get("is_differentiable")) or any(map(declares_gradients, wrapped))
