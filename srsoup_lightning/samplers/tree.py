"""Diffusion tree search: one tree of trajectories for all preferences, that real pictures alone are asked about."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.diffusion.transition import Transition
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.result import Moment, OnStep
from srsoup_lightning.samplers.scalarised import Evaluator, Scalarised
from srsoup_lightning.search.tree import ROOT, Branching, Tree, soft_values


@dataclass(frozen=True, kw_only=True)
class DTS(Scalarised):
    """Diffusion tree search DTS* (Jain et al. 2025, arXiv:2506.20701), with one tree for all preferences.

    Every iteration descends from a dummy root by upper confidence bounds on the soft values, gives a node a new child,
    and follows it to a picture by the unsteered sampler. All latents on the way become nodes. The rewards of the
    picture are kept, and each preference has values of its own for the same nodes. The iterations serve the preferences
    in turn. A preference takes the best picture of the whole tree. The paper has one reward and so one table of values.

    Costs do not depend on the number of preferences. Queries: exactly ``leaves`` of each reward that any preference
    weighs. Network evaluations: one prediction for each node that is no picture. That is at most ``leaves T``, and
    ``i + 1`` less for each picture that branches off at the step i. The memory of a node is one latent.

    Units that are not given are those of the first batch of pictures.

    Args:
        leaves: Number of pictures, at least 1.
        batch: Number of pictures that are drawn at once, at least 2. Larger batches serve the network better, and
            choose with less knowledge.
        inverse_temperature: lambda, at least 0, for a value of one unit. 0 gives a node the mean of its children, and
            more lets the best one count more.
        exploration: Weight of the bonus for nodes that were visited seldom, at least 0, in units of the value.
        widening: C above 0. A node with N visits may have ``C N^alpha`` children.
        exponent: alpha, in [0.1, 1]. 1 with a C of 1 or more makes every picture a new start, as best of N does.

    Raises:
        ValueError: A number is outside its range, or eta is 0.
    """

    leaves: int = at_least(1, default=64)
    batch: int = at_least(2, default=4)
    inverse_temperature: float = at_least(0, default=10.0)
    exploration: float = at_least(0, default=1.0)
    widening: float = 1.0
    exponent: float = at_least(0.1, default=0.5)

    needs_noise: ClassVar[bool] = True
    cost_varies: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widening > 0:
            raise ValueError(f"widening is {self.widening}: give a number above 0")
        if self.exponent > 1:
            raise ValueError(f"exponent is {self.exponent}: give a number in [0.1, 1]")

    def search(self, evaluator: Evaluator, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Scalarised.search`."""
        problem, steps = evaluator.problem, evaluator.problem.kernel.steps
        noisy = [problem.kernel.sigma(step) > 0 for step in range(steps)]
        tree = Tree(noisy, Branching(self.exploration, self.widening, self.exponent))
        means: list[Tensor] = [torch.empty(0, dtype=torch.float32)]  # by node; the root has none
        leaves: list[int] = []
        values = torch.zeros(len(evaluator), 1, dtype=torch.float64)
        rewards, clean = [], []
        for first in range(0, self.leaves, self.batch):
            members = range(first, min(first + self.batch, self.leaves))
            tables = values.tolist()
            paths = [tree.extend(tree.select(tables[member % len(tables)])) for member in members]
            means += [torch.empty(0, dtype=torch.float32)] * (len(tree.parents) - len(means))
            _follow(problem, noise, tree, means, paths, members)
            leaves += [path[-1] for path in paths]
            clean.append(torch.stack([means[path[-1]] for path in paths]))
            rewards.append(evaluator.judge(clean[-1].expand(len(evaluator), *clean[-1].shape), steps).rewards[0])
            pictures = torch.cat(clean)
            found = evaluator.values(torch.cat(rewards).unsqueeze(0), pictures.unsqueeze(0), steps)
            values = soft_values(tree, leaves, found.cpu(), self.inverse_temperature)  # the tree is lists of numbers
            starts = torch.full_like(found[:, 0], len(tree.children[ROOT]))
            measured = {
                "best value": found.amax(1),
                "soft value of the tree": values[:, ROOT].to(found),
                "starts": starts,
            }
            moment = Moment(first // self.batch + 1, ceil(self.leaves / self.batch), problem.ledger)
            on_step(moment._replace(observation=evaluator.measures(measured)))
        return pictures[found.argmax(1)]


def _follow(
    problem: Problem, noise: NoiseSource, tree: Tree, means: list[Tensor], paths: list[list[int]], members: range
) -> None:
    """Compute the means of the transitions from all nodes of new paths, and the clean latents at their ends.

    The paths go on together, level by level. Each draws the noise of its member.

    Args:
        problem: Denoising process.
        noise: Source of all random numbers.
        tree: Tree with the paths.
        means: Means by node. Those of the new nodes are written.
        paths: New nodes of each path.
        members: Member of each path.
    """
    kernel, firsts = problem.kernel, [tree.levels[path[0]] for path in paths]
    for level in range(min(firsts), kernel.steps + 1):
        going = [number for number, first in enumerate(firsts) if first <= level]
        nodes = [paths[number][level - firsts[number]] for number in going]
        if level == 0:
            x = torch.stack([noise.start(members[number]) for number in going])
        else:
            drawn = torch.stack([noise.step(level - 1, members[number]) for number in going])
            before = torch.stack([means[tree.parents[node]] for node in nodes])
            x = Transition(before, kernel.sigma(level - 1)).draw(drawn)
        if level < kernel.steps:
            x = kernel.mean(level, x, problem.denoise(x, level))
        for node, mean in zip(nodes, x, strict=True):
            means[node] = mean
