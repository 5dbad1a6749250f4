"""Observations of a step have the candidates and trajectories that rewards and policies really saw."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from math import exp
from statistics import fmean

import pytest
import torch
from torch import Tensor

from srsoup_lightning.callbacks.curves import PreferenceNames, step_values
from srsoup_lightning.oracle import OraclePolicy
from srsoup_lightning.samplers import (
    Auto,
    BaseModel,
    BestOfN,
    FixedSoup,
    Moment,
    Never,
    Pooled,
    Resampling,
    Selection,
    Sharing,
    SRSoup,
    StepState,
    Surrogate,
)
from tests.samplers.toys import NAMES, Score, lattice, linears, run

STEPS, N = 4, 4


@dataclass(frozen=True)
class Watched(Sharing):
    """Another policy, and the states that it was asked about."""

    policy: Sharing = field(default_factory=Never)
    seen: list[StepState] = field(default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "anchors", self.policy.anchors)
        object.__setattr__(self, "own_noise", self.policy.own_noise)

    def counts(self, candidates: int, preferences: Tensor) -> Tensor:
        return self.policy.counts(candidates, preferences)

    def share(self, state: StepState) -> Tensor:
        self.seen.append(state)
        return self.policy.share(state)


def watch(sampler: SRSoup, rewards: int = 2, divisions: int = 3) -> tuple[list[Moment], dict[str, list[Tensor]]]:
    """The moments of a run, and every answer of each reward."""
    moments: list[Moment] = []
    answers: dict[str, list[Tensor]] = defaultdict(list)

    def noted(name: str, score: Score) -> Score:
        def noting(images: Tensor) -> Tensor:
            answers[name].append(score(images))
            return answers[name][-1]

        return noting

    asked = {name: noted(name, score) for name, score in linears(rewards).items()}
    run(sampler, lattice(rewards, divisions), asked, on_step=moments.append)
    return moments, answers


@pytest.mark.parametrize("policy", [Never(), FixedSoup(0, 2), Pooled()])
def test_rewards_are_the_means_of_the_answers(policy: Sharing) -> None:
    moments, answers = watch(SRSoup(num_inference_steps=STEPS, candidates=N, sharing=policy))
    for step, moment in enumerate(moments[:-1]):  # the last step has no noise to search
        weights, means = moment.observation.preferences, moment.observation.rewards
        for j, name in enumerate(NAMES[:2]):
            asked = ~means[:, j].isnan()
            used = weights[:, j] > 0 if not isinstance(policy, FixedSoup) or step >= 2 else weights[:, j] == 1
            said = answers[name][step]
            if step == 0 and not policy.own_noise:  # all stand at one point and share its candidates
                assert asked.all()
                torch.testing.assert_close(means[:, j], said.mean().expand(len(means)))
                continue
            assert torch.equal(asked, used)
            counts = policy.counts(N, weights)[asked, j].tolist()
            torch.testing.assert_close(means[asked, j], torch.stack([part.mean() for part in said.split(counts)]))


@pytest.mark.parametrize("policy", [Never(), FixedSoup(0, 2), Pooled(measure="previews")])
def test_closeness_is_that_of_the_pictures_they_are_heading_for(policy: Sharing) -> None:
    watched = Watched(policy)
    moments, _ = watch(SRSoup(num_inference_steps=STEPS, candidates=N, sharing=watched, correction="none"))
    for moment, state in zip(moments, watched.seen, strict=False):
        for p, one in enumerate(state.previews):
            for q, other in enumerate(state.previews):
                expected = exp(-float((one - other).square().mean()))
                assert float(moment.observation.closeness[p, q]) == pytest.approx(expected, rel=1e-5)
        torch.testing.assert_close(moment.observation.preferences, state.preferences)


def test_closeness_is_computed_once_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    from srsoup_lightning.search import sharing

    calls: list[int] = []
    real = sharing.preview_closeness
    monkeypatch.setattr(sharing, "preview_closeness", lambda previews: calls.append(len(previews)) or real(previews))
    watch(SRSoup(num_inference_steps=STEPS, candidates=N, sharing=Pooled(measure="previews")))
    assert len(calls) == STEPS - 1


def test_with_a_surrogate_means_are_of_real_answers() -> None:
    options = {"surrogate": Surrogate(previews=6, window=2), "selection": Selection(4, 0.25)}
    moments, answers = watch(Auto(num_inference_steps=STEPS, candidates=2, **options))
    searched = [moment.observation for moment in moments if moment.observation]
    assert len(searched) == STEPS - 2
    for observation, said in zip(searched, answers[NAMES[0]][1:], strict=False):  # the first judged the pool
        asked = observation.preferences[:, 0] > 0
        torch.testing.assert_close(observation.rewards[asked, 0], said.view(-1, 2).mean(1))
        assert observation.rewards[~asked, 0].isnan().all()


def test_trajectories_that_are_resampled_stand_together_afterwards_and_are_counted() -> None:
    resampling = Resampling(0.25, 0.75, margin=0)
    moments, _ = watch(SRSoup(num_inference_steps=STEPS, candidates=N, sharing=Pooled(), resampling=resampling), 2, 6)
    first, *resampled = [moment.observation for moment in moments[:-1]]
    assert first.ancestors is None
    following, shares = resampled[1].latents, []
    for index, ancestor in enumerate(resampled[0].ancestors.tolist()):
        shares.append(index != ancestor)
        for other, latent in enumerate(following):
            same = int(resampled[0].ancestors[other]) == ancestor
            assert torch.equal(latent, following[index]) == same
    values = step_values(moments[1], PreferenceNames(lattice(2, 6)))
    assert values["denoising/trajectories resampled"] == pytest.approx(fmean(shares))
    assert 0 < fmean(shares) < 1
    assert "denoising/trajectories resampled" not in step_values(moments[0], PreferenceNames(lattice(2, 6)))


@pytest.mark.parametrize("sampler", [BaseModel(num_inference_steps=3), BestOfN(num_inference_steps=3, pool=4)])
def test_methods_without_candidates_have_nothing_to_observe(sampler: BaseModel | BestOfN) -> None:
    moments: list[Moment] = []
    run(sampler, lattice(2, 2), on_step=moments.append)
    assert [moment.observation for moment in moments] == [None] * 3


def test_steps_without_search_have_nothing_to_observe() -> None:
    moments, _ = watch(SRSoup(num_inference_steps=STEPS, candidates=[N, 0], sharing=Never()))
    assert [moment.observation is None for moment in moments] == [False, False, True, True]


def test_a_candidate_without_a_score_counts_with_the_worst_of_its_step() -> None:
    moments: list[Moment] = []

    def patchy(images: Tensor) -> Tensor:
        scores = torch.arange(1.0, len(images) + 1)
        if len(images) > 1:  # not the final picture, which has no other to take the worst of
            scores[0] = torch.nan
        return scores

    sampler = SRSoup(num_inference_steps=2, candidates=N, sharing=Never())
    run(sampler, lattice(1, 1), {"a": patchy}, policy=OraclePolicy(failing="worst"), on_step=moments.append)
    assert moments[0].observation.rewards.tolist() == [[(2 + 2 + 3 + 4) / 4]]
