"""The search as a teacher: its gradients reproduce its steps, and the loss is the published formula."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from srsoup_lightning import Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.callbacks import SampleWriter, SearchKeeper
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.finetune import Conditioning, KeptSearches, OnlineSearch, SoupDistillation
from srsoup_lightning.finetune.searches import searched
from srsoup_lightning.problem import Problem
from srsoup_lightning.runs.searches import read_searches
from srsoup_lightning.samplers import Selection, SRSoup, Surrogate
from srsoup_lightning.search.gradient import project_to_shell
from srsoup_lightning.search.pooling import Pooled
from srsoup_lightning.search.scalarise import Value
from srsoup_lightning.search.sharing import FixedSoup, Never
from tests.conftest import Channel, quiet_trainer
from tests.diffusion.drawing import sized
from tests.finetune.fits import PROCESS, Smooth, fit, make_fit
from tests.finetune.tilted import Tilted, train, tuning
from tests.samplers.toys import NAMES, bind, lattice, linears, oracle

STEPS = {"num_inference_steps": 6, "eta": 1.0, "guidance_scale": 1.0, "max_batch": 64}
SMALL = STEPS | {"groups": 2, "group_size": 2, "train_batch": 2}
SEARCH = OnlineSearch(SRSoup(candidates=6, sharing=Never()))


@pytest.mark.parametrize(
    "method",
    [
        SRSoup(candidates=4, sharing=Never(), **STEPS),
        SRSoup(candidates=[4, 0, 6], sharing=FixedSoup(0, 3), correction="exact", **STEPS),
        SRSoup(candidates=4, sharing=FixedSoup(0, 3), correction="raw", shaping="ranks", **STEPS),
        SRSoup(candidates=4, sharing=Pooled(), **STEPS),
        SRSoup(candidates=3, sharing=Pooled(), surrogate=Surrogate(previews=8), **STEPS),
    ],
)
def test_kept_gradients_reproduce_every_step_of_the_search(method: SRSoup) -> None:
    problem, weights = Problem(bind(method), oracle(linears(3)), 64), lattice(3, 2).weights
    found = searched(method, problem, weights, NoiseSource("a snail", 0, problem.shape))
    kernel, counts = problem.kernel, method.settings(NAMES).candidates
    steps = [step for step in range(kernel.steps) if kernel.sigma(step) and counts[step]]
    assert found.states.shape[:2] == (len(weights), len(steps))
    for place, step in enumerate(steps[:-1]):
        if steps[place + 1] != step + 1:
            continue
        direction = torch.einsum("pm,pm...->p...", weights, found.gradients[:, place])
        expected = found.means[:, place] + kernel.sigma(step) * project_to_shell(direction, direction)
        torch.testing.assert_close(found.states[:, place + 1], expected, rtol=1e-4, atol=1e-4)


def test_the_loss_begins_at_alpha_squared_and_falls_along_the_search_s_direction() -> None:
    policy, objective = Tilted(odds=0.3), SoupDistillation(searches=SEARCH, alpha=0.5, hindsight=False, **SMALL)
    fit = tuning(objective, policy)
    fit.collect(["a snail"])
    rollout, rows = fit.rollouts[0], objective.rows(0)
    for index, step in enumerate(rollout.steps):
        loss = objective.loss(rollout, 0, index, policy)
        torch.testing.assert_close(loss.value.detach(), torch.tensor(0.25), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(loss.logs["learned"], torch.tensor(0.0), rtol=0, atol=1e-4)
        (slope,) = torch.autograd.grad(loss.value, policy.odds)
        # By hand: -2 alpha / sigma times the mean over rows and numbers of u dmu/dodds, as a directional derivative.
        sigma, x = rollout.problem.kernel.sigma(step), rollout.take("states", rows, index)
        direction = torch.einsum("bm,bm...->b...", rollout.tensors["weights"], rollout.take("gradients", rows, index))
        unit = direction * (direction[0].numel() ** 0.5 / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1))
        with torch.enable_grad():
            mean = rollout.problem.kernel.mean(step, x, rollout.problem.denoiser.denoise(x, step))
            (along,) = torch.autograd.grad((mean * unit).mean(), policy.odds)
        torch.testing.assert_close(slope, -2 * 0.5 / sigma * along, rtol=1e-3, atol=1e-6)


def test_distillation_tilts_the_odds_as_far_as_the_search_does_and_more_with_alpha() -> None:
    odds = {}
    for alpha in (0.3, 1.0):
        policy = Tilted()
        train(SoupDistillation(searches=SEARCH, alpha=alpha, hindsight=False, **SMALL), policy, 8, 0.2, ["a snail"])
        odds[alpha] = float(policy.odds)
    assert odds[1.0] > 0.5
    assert odds[0.3] > 0.1


def test_the_divergence_is_weighed_and_every_query_is_the_search_s() -> None:
    policy = Tilted(odds=0.4)
    fit = tuning(SoupDistillation(searches=SEARCH, kl=3.0, hindsight=False, **SMALL), policy)
    fit.collect(["a snail"])
    steps = len(fit.rollouts[0].steps)
    assert fit.meter.ledger.queries == {"bright": 2 * 2 * steps * 6}
    free = replace(fit.objective, kl=0.0).loss(fit.rollouts[0], 0, 0, policy)
    held = fit.objective.loss(fit.rollouts[0], 0, 0, policy)
    torch.testing.assert_close(held.value, free.value + 3.0 * held.logs["kl"])
    assert held.logs["kl"] > 0


def test_bad_distillations_are_refused() -> None:
    with pytest.raises(ValueError, match="alpha is 0: give a share of the search's step above 0"):
        SoupDistillation(alpha=0)
    with pytest.raises(ValueError, match="eta is 0: a step without noise is not searched"):
        SoupDistillation(eta=0.0)
    with pytest.raises(ValueError, match="the search starts from the best of a pool"):
        OnlineSearch(SRSoup(selection=Selection()))


def test_kept_searches_are_learned_without_a_query(tmp_path: Path) -> None:
    points = [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    rewards, preferences = {"red": Smooth(0), "blue": Channel(2)}, Preferences(["red", "blue"], points)
    process = PROCESS | {"eta": 1.0}
    module = SRSoupModule(sized("SD"), rewards, SRSoup(candidates=3, sharing=Never(), **process), preferences)
    trainer = quiet_trainer(callbacks=[SearchKeeper(), SampleWriter()], default_root_dir=tmp_path / "run")
    trainer.predict(module, PromptDataModule(["a cat", "a dog"], [0, 1]))
    (search, *others) = read_searches(tmp_path / "run")
    assert (len(others), search.rewards, search.steps) == (3, ("red", "blue"), (0, 1, 2))
    assert search.gradients.shape[:3] == (3, 3, 2)

    kept = KeptSearches((str(tmp_path / "run"),))
    for conditioning, given in ((None, [[1.0, 0.0]]), (Conditioning(width=8), points)):
        objective = SoupDistillation(**SMALL | process, searches=kept)
        folder = tmp_path / str(len(given))
        tuned = fit(folder, make_fit(objective, given, conditioning=conditioning), rounds=1)
        assert tuned.finetuning is not None
        assert tuned.finetuning.costs.total_queries == 0
        assert tuned.finetuning.costs.gradients > 0
    for options, message in (
        ({"num_inference_steps": 4}, "have num_inference_steps 3, and the objective 4: give the objective theirs"),
        ({"guidance_scale": 3.0}, "have guidance_scale 2, and the objective 3"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(tmp_path / "bad", make_fit(replace(objective, **options)), rounds=1)
    with pytest.raises(FileNotFoundError, match="has kept no searches: make it by srsoup predict with"):
        KeptSearches((str(tmp_path),)).prompts([], ["red"], Value(torch.ones(1)))
