"""The rewards as samplers ask them: checked, and beside the network's work where they don't need its device."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

Score = Callable[[Tensor], Tensor]
Ask = Callable[[str, Tensor, str], "Future[Tensor]"]


class RewardError(RuntimeError):
    """A reward raised, or returned something that is not one finite number an image."""


class Judges:
    """Black-box rewards by name.

    Args:
        rewards: Name to a function from images (B, 3, H, W) in [0, 1] to scores (B,); the order is that of every
            result's last axis.
        on_cpu: Names of those that work on the CPU wherever the images are, so that the network needn't wait for them.
    """

    def __init__(self, rewards: Mapping[str, Score], on_cpu: Collection[str] = ()) -> None:
        self.rewards, self.on_cpu = dict(rewards), frozenset(on_cpu)

    def score(self, name: str, images: Tensor, when: str) -> Tensor:
        """One reward's scores (B,) float32 of images (B, 3, H, W), on the images' device.

        Raises:
            RewardError: It raised or returned something other than finite numbers; the message says `when`.
        """
        try:
            scores = self.rewards[name](images)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise RewardError(f"reward {name!r} failed {when}: {reason}") from error
        if not isinstance(scores, Tensor) or scores.shape != (len(images),):
            found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise RewardError(
                f"reward {name!r} returned {found} {when}: score() must return one number an image, "
                f"a tensor of shape ({len(images)},)"
            )
        if not torch.isfinite(scores).all():
            worst = scores[~torch.isfinite(scores)][0].item()
            raise RewardError(
                f"reward {name!r} returned {worst} {when}: score() must return finite numbers; check the reward on "
                "that picture or replace such scores in it"
            )
        return scores.detach().to(device=images.device, dtype=torch.float32)

    @contextmanager
    def asking(self) -> Iterator[Ask]:
        """A function with the arguments of :meth:`score` whose answer may still be on its way.

        Rewards on the CPU work in one background thread, the others at once. The block ends when all are done.
        """
        with ThreadPoolExecutor(1) as background:

            def ask(name: str, images: Tensor, when: str) -> Future[Tensor]:
                if name in self.on_cpu:
                    return background.submit(self.score, name, images, when)
                answer: Future[Tensor] = Future()
                answer.set_result(self.score(name, images, when))
                return answer

            yield ask
