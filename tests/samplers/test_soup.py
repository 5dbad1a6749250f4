"""The weighted sum and the soup: their invariants, their bill, and a slow twin written from the paper."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.samplers import Auto, BaseModel, BestOfN, SRSoup, WeightedSum
from srsoup_lightning.search.gates import AdaptiveAnchors, Gated
from srsoup_lightning.search.pooling import Pooled
from srsoup_lightning.search.selection import Resampling, Selection
from srsoup_lightning.search.shaping import Shaping
from srsoup_lightning.search.sharing import FixedSoup, Never, Sharing, StepState, share_own
from srsoup_lightning.search.surrogate import LENGTHS, NOISES, Surrogate
from tests.samplers.toys import NAMES, SHAPE, Score, bind, curved, lattice, linear, linears, normal, run

STEPS, N = 6, 4
ALWAYS = FixedSoup(0, STEPS)


def soup(sharing: Sharing = ALWAYS, **options: object) -> SRSoup:
    return SRSoup(**{"num_inference_steps": STEPS, "candidates": N, "sharing": sharing} | options)


def weighted_sum(**options: object) -> WeightedSum:
    return WeightedSum(**{"num_inference_steps": STEPS, "candidates": N} | options)


def close(one: Tensor, other: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


class Alone(Sharing):
    own_noise = True

    def share(self, state: StepState) -> Tensor:
        return share_own(state.preferences)


class Lone(Alone):
    anchors = False


class Tangle(Sharing):
    """Arbitrary sharing weights. No trajectory uses the second."""

    def share(self, state: StepState) -> Tensor:
        trajectories, rewards = state.preferences.shape
        weights = normal(trajectories, trajectories, rewards, seed=state.step)
        weights[:, 1] = 0
        return weights.abs()


class OwnTangle(Tangle):
    own_noise = True


class Twin:
    """One trajectory, one reward and one candidate at a time, every latent evaluated anew."""

    def __init__(self, sampler: SRSoup, weights: Tensor, final_alpha: float) -> None:
        self.sampler, self.weights, self.denoiser = sampler, weights, bind(sampler, final_alpha)
        self.rewards = list(linears(weights.shape[1]).values())
        self.noise = NoiseSource("a lobster", 0, SHAPE)
        self.memory: list[list[tuple[Tensor, Tensor]]] = [[] for _ in self.rewards]
        self.known: list[tuple[list[float], list[int], float]] = []  # of each reward of a step, for each trajectory

    def step(self, x: Tensor, step: int) -> Tensor:
        predictions = [self.denoiser.denoise(each, step) for each in x.split(1)]
        kernel = self.denoiser.kernel
        means = torch.cat([kernel.mean(step, each, seen) for each, seen in zip(x, predictions, strict=True)])
        previews = torch.cat([prediction.x0 for prediction in predictions])
        sigma, surrogate = kernel.sigma(step), self.sampler.surrogate
        if sigma == 0:
            return means
        counts = self.sampler.sharing.counts(N, self.weights)
        known = torch.full_like(counts, max(N, surrogate.previews)) if surrogate else counts
        state = StepState(step, STEPS, means, previews, sigma, self.weights, known)
        directions = self.directions(state, counts)
        lengths = directions.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        following = means + sigma * math.sqrt(math.prod(SHAPE)) * directions / lengths
        resampling = self.sampler.resampling
        if resampling and resampling.start <= step / STEPS < resampling.stop:
            following = torch.stack([following[self.ancestor(p)] for p in range(len(x))])
        return following

    def ancestor(self, p: int) -> int:
        weighted = [(float(w), *known) for w, known in zip(self.weights[p], self.known, strict=True) if w > 0]
        values = [sum(w * means[q] / unit for w, means, _, unit in weighted) for q in range(len(self.weights))]
        serving = {p: values[p]}
        for q, value in enumerate(values):
            error = math.sqrt(sum(w**2 * (1 / max(n[p], 1) + 1 / max(n[q], 1)) for w, _, n, _ in weighted))
            if value - values[p] > self.sampler.resampling.margin * error:  # which is false where one is unknown
                serving[q] = value
        return max(serving, key=serving.get)

    def directions(self, state: StepState, counts: Tensor) -> Tensor:
        step, means, sigma = state.step, state.means, state.sigma
        weights, known = state.preferences, state.counts
        share, directions = self.sampler.sharing.share(state), torch.zeros_like(means)
        own, used = self.sampler.sharing.own_noise, (weights.unsqueeze(1) * share > 0).any(0)
        scale = {"exact": 1 / sigma, "raw": 1, "none": 0}[self.sampler.correction]
        draws, clean, self.known = [], [], []
        for s in range(len(means)):
            draws.append(self.noise.candidates(int(known.max()), step, weights[s].tolist() if own else None))
            latents = means[s] + sigma * draws[s]
            clean.append(latents if step + 1 == STEPS else self.denoiser.denoise(latents, step + 1).x0)
        for j, score in enumerate(self.rewards):
            asked = counts[:, j] * used[:, j]
            raw, explained, unit = self.known_rewards(j, score, torch.stack(clean), used, asked)
            told = used.any(1) if self.sampler.surrogate else asked
            theirs = [float(raw[s][: int(known[s, j])].mean()) if told[s] else math.nan for s in range(len(means))]
            self.known.append((theirs, known[:, j].tolist(), unit))
            for s in range(len(means)):
                kept = raw[s][: int(known[s, j])]
                shaped = kept if not len(kept) else (kept - kept.mean()) / (kept.std(correction=0) + 1e-8)
                for p in range(len(means)):
                    for k in range(len(kept) if share[p, s, j] else 0):
                        seen = draws[s][k] + scale * (means[s] - means[p])
                        weight = weights[p, j] * share[p, s, j] * shaped[k] / max(explained, 0.1)
                        directions[p] += weight * draws[s][k].norm() * seen / seen.norm()
        return directions

    def known_rewards(
        self, j: int, score: Score, clean: Tensor, used: Tensor, asked: Tensor
    ) -> tuple[Tensor, float, float]:
        raw = torch.stack([score(self.denoiser.decode(each)) for each in clean])
        answered = [raw[s][: int(asked[s])] for s in range(len(clean)) if asked[s]]
        unit = math.sqrt(within(answered)) if answered else 1.0
        if not (surrogate := self.sampler.surrogate):
            return raw, 1.0, unit
        rows = [(s, k) for s in range(len(clean)) for k in range(int(asked[s]))]
        answers = torch.stack([raw[row] for row in rows]).double()
        self.memory[j].append((torch.stack([clean[row] for row in rows]), answers - answers.mean()))
        x, y = (torch.cat(each) for each in zip(*self.memory[j][-surrogate.window :], strict=True))
        previewed = clean[used.any(1)]
        spread = torch.stack([(a - b).square().mean() for each in previewed for a in each for b in each]).mean()
        spread = float(spread) * clean.shape[1] / (clean.shape[1] - 1)
        predictions = []
        for length in LENGTHS:
            points = torch.cat([x, clean.flatten(0, 1)]).flatten(1).double()
            joint = 1 / (1 + torch.cdist(points, points).square() / points.shape[1] / (2 * length * spread))
            for noise in NOISES:
                known = joint[: len(x), : len(x)] + noise * torch.eye(len(x), dtype=torch.float64)
                solved = known.inverse() @ y
                likelihood = -len(x) / 2 * (y @ solved).log() - known.logdet() / 2
                predictions.append((float(likelihood), joint[len(x) :, : len(x)] @ solved))
        predicted = max(predictions, key=lambda each: each[0])[1].float().view(raw.shape)
        sources = [s for s in range(len(clean)) if used[s].any()]
        explained = math.sqrt(within([predicted[s] for s in sources])) / unit
        return predicted, explained, unit


def within(groups: list[Tensor]) -> float:
    """Variance about each group's own mean."""
    squares = sum(float((group - group.mean()).square().sum()) for group in groups)
    return squares / sum(len(group) - 1 for group in groups)


def twin(sampler: SRSoup, preferences: Preferences, final_alpha: float) -> Tensor:
    weights, indices = preferences.trajectories(sampler.sharing.anchors)
    slow = Twin(sampler, weights, final_alpha)
    x = torch.stack([slow.noise.start()] * len(weights))
    for step in range(STEPS):
        x = slow.step(x, step)
    return slow.denoiser.decode(x)[indices]


POLICIES = [Never(), FixedSoup(0, 3), FixedSoup(1, 4), Gated(0.8), AdaptiveAnchors(0.8), Pooled(2.0)]
SURROGATE = Surrogate(previews=6, window=2)
TOLD = product([*POLICIES, Alone(), Tangle(), OwnTangle()], ["exact", "raw", "none"], [{}])
PREDICTED = product([Pooled(), OwnTangle()], ["none"], [{"surrogate": SURROGATE}])
RESAMPLED = product(
    [Pooled(), Alone(), OwnTangle()],
    ["none"],
    [{"resampling": Resampling(0.3, 1, 0.5), "surrogate": s} for s in (None, SURROGATE)],
)


@pytest.mark.parametrize("final_alpha", [1.0, 0.95])
@pytest.mark.parametrize(("sharing", "correction", "options"), [*TOLD, *PREDICTED, *RESAMPLED])
def test_pictures_are_those_of_the_slow_twin(sharing: Sharing, correction: str, options, final_alpha: float) -> None:
    sampler, preferences = soup(sharing, correction=correction, shaping="std", **options), lattice(3, 2)
    found = run(sampler, preferences, denoiser=bind(sampler, final_alpha))
    close(found.images, twin(sampler, preferences, final_alpha), 2e-3 if sampler.surrogate else 1e-4)


def anchors_first(rewards: int) -> Preferences:
    """Then the soup's trajectories are the preferences as listed: the same batches, hence the same bits."""
    mixtures = {1: [], 2: [[0.2, 0.8], [0.6, 0.4]], 3: [[0.2, 0.3, 0.5], [0.5, 0.5, 0]]}
    return Preferences(NAMES[:rewards], torch.eye(rewards).tolist() + mixtures[rewards])


EMPTY = [(FixedSoup(start, start), anchors_first(rewards)) for start in (0, 3) for rewards in (1, 2, 3)]
ONE_REWARD = [(sharing, lattice(1, 1)) for sharing in (ALWAYS, FixedSoup(1, 3))]


@pytest.mark.parametrize(("sharing", "preferences"), [*EMPTY, *ONE_REWARD])
def test_an_empty_soup_and_one_of_one_reward_are_the_weighted_sum_bit_for_bit(sharing, preferences) -> None:
    found, expected = (run(each, preferences) for each in (soup(sharing), weighted_sum()))
    close(found.images, expected.images, 0)
    for cost in ("queries", "nfe", "decodes"):
        assert getattr(found.ledger, cost) == getattr(expected.ledger, cost)


def test_in_any_order_an_empty_soup_is_the_weighted_sum_but_for_rounding() -> None:
    for preferences in (lattice(3, 4), Preferences(NAMES, [[0.5, 0.3, 0.2], [0, 0, 1]])):
        close(run(soup(FixedSoup(0, 0)), preferences).images, run(weighted_sum(), preferences).images)


@pytest.mark.parametrize("score", [linear(0), curved])
@pytest.mark.parametrize("sampler", [soup(), soup(FixedSoup(1, 3)), weighted_sum()])
def test_rewards_that_are_one_function_give_every_preference_the_anchors_picture(sampler: SRSoup, score) -> None:
    images = run(sampler, lattice(3, 3), dict.fromkeys(NAMES, score)).images
    close(images, images[:1].expand_as(images))


@pytest.mark.parametrize("correction", ["exact", "raw", "none"])
def test_where_all_trajectories_stand_at_one_point_borrowing_equals_asking(correction: str) -> None:
    policies = (soup(each, num_inference_steps=2, correction=correction) for each in (FixedSoup(0, 1), Never()))
    found, expected = (run(each, lattice(3, 3)) for each in policies)
    close(found.images, expected.images, 1e-6)
    assert (found.images - found.images[:1]).abs().amax((1, 2, 3))[1:].min() > 1e-3


def test_adding_a_preference_changes_nothing_for_the_others() -> None:
    points = {name: row for name, row in zip(lattice(3, 2).names, lattice(3, 2).weights.tolist(), strict=True)}
    alone = run(soup(), Preferences(NAMES, points)).images
    more = run(soup(), Preferences(NAMES, {"added": [0.6, 0.3, 0.1], **points, "last": [0.1, 0.1, 0.8]})).images
    close(more[1:-1], alone, 1e-6)
    # With own noise it changes nothing for those that share nothing.
    few = [[1, 0], [0.25, 0.75], [0, 1]]
    preferences = (Preferences(NAMES[:2], points) for points in (few, [[0.6, 0.4], *few]))
    alone, among = (run(soup(Alone(), shaping="std"), each).images for each in preferences)
    close(alone, among[1:])


def test_anchors_run_though_nobody_asked_for_their_pictures() -> None:
    points = [*torch.eye(3).tolist(), [0.2, 0.3, 0.5]]
    found, expected = (run(soup(), Preferences(NAMES, each)) for each in (points[3:], points))
    assert found.images.shape == (1, *SHAPE)
    close(found.images, expected.images[3:], 1e-6)
    assert found.ledger.queries == expected.ledger.queries == dict.fromkeys(NAMES, N * (STEPS - 1))
    assert found.ledger.nfe == expected.ledger.nfe


def test_permuting_rewards_together_with_weights_permutes_nothing_else() -> None:
    order = [2, 0, 1]
    names, rewards = [NAMES[i] for i in order], linears(3)
    for sampler in (soup(FixedSoup(0, 3)), weighted_sum()):
        straight = run(sampler, Preferences(NAMES, lattice(3, 3).weights.tolist()), rewards)
        turned = Preferences(names, lattice(3, 3).weights[:, order].tolist())
        permuted = run(sampler, turned, {name: rewards[name] for name in names})
        close(permuted.images, straight.images)
        close(permuted.rewards, straight.rewards[:, order], 1e-4)
        assert permuted.ledger.queries == straight.ledger.queries


def bill(preferences: Preferences, sharing: FixedSoup, final_alpha: float) -> tuple[int, int, int]:
    """Queries, network evaluations and decodes by the formulae of the paper."""
    # N M queries a soup step and N (M + M (L - M)) another. A preference without weight on a reward doesn't ask it.
    # The first step has one set of candidates, and a step to the clean latent has none.
    total, rewards = preferences.weights.shape
    asked = int((preferences.weights > 0).sum())
    queries, evaluations, decodes = 0, 0, total
    for step in range(STEPS):
        evaluations += total if step else 1
        if step == STEPS - 1 and final_alpha == 1:
            continue
        shared = sharing.start <= step < sharing.end
        sources = 1 if step == 0 else rewards if shared else total
        queries += N * (rewards if shared or step == 0 else asked)
        decodes += N * sources
        evaluations += N * sources if step < STEPS - 1 else 0
    return queries, evaluations, decodes


@pytest.mark.parametrize("final_alpha", [1.0, 0.95])
@pytest.mark.parametrize("sharing", [FixedSoup(0, 0), FixedSoup(0, 3), FixedSoup(2, 4), FixedSoup(0, STEPS)])
@pytest.mark.parametrize(("rewards", "divisions"), [(1, 1), (2, 1), (2, 5), (3, 1), (3, 4)])
def test_the_bill_is_the_formula(rewards: int, divisions: int, sharing: FixedSoup, final_alpha: float) -> None:
    preferences, sampler = lattice(rewards, divisions), soup(sharing)
    ledger = run(sampler, preferences, denoiser=bind(sampler, final_alpha)).ledger
    assert (ledger.total_queries, ledger.nfe, ledger.decodes) == bill(preferences, sharing, final_alpha)
    assert len(set(ledger.queries.values())) == 1


class OnlyTheFirst(Alone):
    def share(self, state: StepState) -> Tensor:
        share = torch.zeros_like(super().share(state))
        share[:, 0] = 1
        return share


SEARCHED = STEPS - 1
INTERIOR = [*torch.eye(3).tolist(), [0.2, 0.3, 0.5], [0.4, 0.4, 0.2]]
IN_PROPORTION = [[1.0, 0.0], [0.75, 0.25], [0.5, 0.5], [0.1, 0.9], [0.0, 1.0]]
BILLS = {  # sampler, preferences, queries, decodes of candidates
    # 3 soup steps and 2 others
    "the paper's": (soup(FixedSoup(0, 3)), INTERIOR, [N * 3 + N * (1 + 2) * 2] * 3, N * (1 + 3 * 2 + 5 * 2)),
    "a reward without weight": (weighted_sum(), [[0.5, 0.5, 0.0]], [N * SEARCHED, N * SEARCHED, 0], N * SEARCHED),
    "sources that nobody uses": (soup(OnlyTheFirst()), lattice(2, 4).weights, [N * SEARCHED] * 2, N * SEARCHED),
    # 8 + 6 + 4 + 2 queries of the first reward a step, 2 + 4 + 7 + 8 of the second, by 8 + 6 + 4 + 7 + 8 candidates.
    "in proportion": (soup(Pooled(), candidates=8), IN_PROPORTION, [20 * SEARCHED, 21 * SEARCHED], 33 * SEARCHED),
}


@pytest.mark.parametrize(("sampler", "points", "queries", "decodes"), BILLS.values(), ids=BILLS)
def test_a_bill_by_hand(sampler: SRSoup, points: list, queries: list[int], decodes: int) -> None:
    ledger = run(sampler, Preferences(NAMES[: len(queries)], torch.as_tensor(points).tolist())).ledger
    assert list(ledger.queries.values()) == queries
    assert ledger.decodes == decodes + len(points)
    assert ledger.nfe == 1 + len(points) * SEARCHED + decodes


@pytest.mark.parametrize("preferences", [lattice(1, 1), lattice(2, 5), lattice(3, 4)])
def test_pooled_preferences_ask_once_for_each_reward_they_weigh(preferences: Preferences) -> None:
    ledger = run(soup(Pooled(proportional=False)), preferences).ledger
    assert ledger.total_queries == N * int((preferences.weights > 0).sum()) * SEARCHED


@pytest.mark.parametrize("final_alpha", [1.0, 0.95])
def test_a_surrogate_costs_network_evaluations_but_neither_queries_nor_decodes(final_alpha: float) -> None:
    samplers = (soup(Pooled(), candidates=4, surrogate=each) for each in (None, Surrogate(previews=10)))
    plain, predicted = (run(each, lattice(2, 4), denoiser=bind(each, final_alpha)).ledger for each in samplers)
    assert (predicted.queries, predicted.decodes) == (plain.queries, plain.decodes)
    # No previews where candidates are clean already, or none are drawn.
    assert predicted.nfe == 1 + 5 * SEARCHED + 10 * 5 * SEARCHED
    # Candidates beyond the previews are previewed too.
    ledger = run(soup(Never(), candidates=6, surrogate=Surrogate(previews=2)), lattice(1, 1)).ledger
    assert (ledger.total_queries, ledger.nfe) == (6 * SEARCHED, STEPS + 6 * SEARCHED)


@pytest.mark.parametrize("shared", [True, False])
def test_a_selection_before_the_last_step_is_best_of_n_for_the_mean_preference_or_for_each(shared: bool) -> None:
    sampler = soup(Never(), selection=Selection(pool=7, start=(STEPS - 1) / STEPS, shared=shared))
    mean = Preferences(lattice(3, 2).rewards, [[1 / 3] * 3])
    found = run(sampler, lattice(3, 2))
    expected = run(BestOfN(num_inference_steps=STEPS, pool=7), mean if shared else lattice(3, 2))
    close(found.images, expected.images.expand_as(found.images))
    assert found.ledger.queries == expected.ledger.queries


def test_a_pool_that_jumps_takes_one_deterministic_step_to_the_start() -> None:
    sampler = soup(Never(), selection=Selection(pool=7, start=(STEPS - 1) / STEPS, jump=True))
    denoiser, noise, reward = bind(sampler, 1.0), NoiseSource("a lobster", 0, SHAPE), linear(0)
    starts = torch.stack([noise.start(member) for member in range(7)])
    there = denoiser.kernel.jump(STEPS - 1, denoiser.denoise(starts, 0))
    pictures = denoiser.decode(denoiser.denoise(there, STEPS - 1).x0)
    found = run(sampler, lattice(1, 1), {NAMES[0]: reward})
    close(found.images, pictures[reward(pictures).argmax()].unsqueeze(0))
    assert found.ledger.nfe == 7 * 2 + 1


def test_from_the_start_on_a_selection_is_the_search_itself() -> None:
    sampler = soup(Never(), selection=Selection(pool=5, start=0.5))
    many, alone = (run(sampler, lattice(m, m), dict.fromkeys(NAMES[:m], linear(0))).images for m in (2, 1))
    close(many, alone.expand_as(many))


@pytest.mark.parametrize("surrogate", [None, Surrogate(previews=6)])
def test_the_pool_is_asked_once(surrogate: Surrogate | None) -> None:
    """Steps 3 and 4 of 6 search, step 5 has no candidates."""
    pool, start = 9, 3
    options = {"sharing": Alone(), "selection": Selection(pool=pool, start=0.5), "surrogate": surrogate}
    ledger = run(soup(**options), lattice(2, 4)).ledger
    asked, previewed = N * 5 * 2, (surrogate.previews if surrogate else N) * 5
    assert ledger.queries == dict.fromkeys(NAMES[:2], pool + asked - 2 * N)  # a corner asks one reward
    after = ledger.nfe - pool * (start + 1) - 2 * previewed
    assert after == 1 + 2 * 5  # the trajectories themselves: at one point, then each at its own


def test_preferences_that_want_the_same_go_on_together_and_share_predictions() -> None:
    points, rewards = Preferences(NAMES[:2], [[0.2, 0.8], [0.5, 0.5], [0.7, 0.3]]), dict.fromkeys(NAMES[:2], curved)
    resampled, plain = soup(Lone(), resampling=Resampling(0, 1, 0)), soup(Lone())
    together, apart = (run(sampler, points, rewards) for sampler in (resampled, plain))
    close(together.images, together.images[:1].expand_as(together.images), 0)
    assert together.ledger.queries == apart.ledger.queries
    # Of three trajectories at one point, one is predicted.
    assert apart.ledger.nfe - together.ledger.nfe == 2 * SEARCHED
    close(run(resampled, lattice(1, 1)).images, run(plain, lattice(1, 1)).images, 0)


def test_gates_and_covers_ask_between_the_soup_and_the_weighted_sum() -> None:
    def queries(sharing: Sharing) -> int:
        return run(soup(sharing), lattice(2, 5)).ledger.total_queries

    for policy in (Gated, AdaptiveAnchors):
        bills = [queries(policy(threshold)) for threshold in (0.0, 0.99, 1.0)]
        assert queries(FixedSoup(0, STEPS)) <= bills[0] < bills[1] < bills[2]
        assert bills[2] == queries(Never())


def test_anchors_beat_the_unsteered_model_at_their_own_reward() -> None:
    seeds = range(6)
    options = {"num_inference_steps": 12, "candidates": 16}
    base = torch.stack([run(BaseModel(num_inference_steps=12), lattice(2, 2), seed=seed).rewards for seed in seeds])
    for sampler in (soup(FixedSoup(0, 12), **options), soup(FixedSoup(0, 5), **options), weighted_sum(**options)):
        steered = torch.stack([run(sampler, lattice(2, 2), seed=seed).rewards for seed in seeds])
        gain = (steered - base) / base.std(0)
        assert gain[:, 0, 0].min() > 1.5
        assert gain[:, 2, 1].min() > 1.5
        assert gain[:, 1].min() > 0
        assert (steered[:, 0, 0] > steered[:, 1, 0]).all()
        assert (steered[:, 2, 1] > steered[:, 1, 1]).all()


@pytest.mark.parametrize("sharing", [ALWAYS, Never(), Alone()])
def test_equal_rewards_take_the_unsteered_step_along_the_first_draw(sharing: Sharing) -> None:
    sampler = soup(sharing)
    denoiser, noise = bind(sampler), NoiseSource("a lobster", 0, SHAPE)
    x = torch.stack([noise.start()] * 3)
    points = lattice(2, 2).trajectories(sharing.anchors)[0].tolist()
    for step in range(STEPS):
        mean, sigma = denoiser.kernel.transition(step, x, denoiser.denoise(x, step))
        own = [noise.candidates(N, step, point if sharing.own_noise else None)[0] for point in points]
        x = mean + sigma * torch.stack(own)
    constant = dict.fromkeys(NAMES[:2], lambda images: torch.full((len(images),), 0.1))
    # Trajectories are in the order of the preferences, or the anchors first and then the compromise.
    order = [0, 2, 1] if sharing.anchors else [0, 1, 2]
    close(run(sampler, lattice(2, 2), constant).images, denoiser.decode(x)[order])


def test_a_mirrored_pair_steps_along_the_better_of_its_two_draws() -> None:
    sampler = soup(Never(), candidates=2, antithetic=True, num_inference_steps=2)
    denoiser, noise = bind(sampler), NoiseSource("a lobster", 0, SHAPE)
    mean, sigma = denoiser.kernel.transition(0, noise.start()[None], denoiser.denoise(noise.start()[None], 0))
    draws = noise.candidates(2, 0, antithetic=True)
    best = linear(0)(denoiser.decode(denoiser.denoise(mean + sigma * draws, 1).x0)).argmax()
    x = mean + sigma * math.sqrt(math.prod(SHAPE)) * draws[best] / draws[best].norm()
    close(run(sampler, lattice(1, 1)).images, denoiser.decode(denoiser.kernel.mean(1, x, denoiser.denoise(x, 1))))


def test_a_shaping_per_reward_is_used_for_that_reward() -> None:
    def pictures(shaping: object, rewards: int = 1) -> Tensor:
        return run(soup(candidates=8, shaping=shaping), lattice(rewards, 2 if rewards > 1 else 1)).images

    for same, other in (({"a": Shaping("ranks")}, "ranks"), ({}, "std"), (Shaping("tanh"), "tanh")):
        close(pictures(same), pictures(other), 0)
    assert (pictures("ranks") - pictures("std")).abs().max() > 1e-3
    mixed, plain, ranked = (pictures(each, 2) for each in ({"b": Shaping("ranks")}, "std", "ranks"))
    close(mixed[0], plain[0])
    close(mixed[2], ranked[2])
    # A target out of reach leaves the model unsteered.
    base = run(soup(), lattice(1, 1), {"a": lambda images: torch.zeros(len(images))}).images
    close(run(soup(shaping=Shaping(target=1e9)), lattice(1, 1)).images, base)


def test_a_surrogate_that_was_told_all_steers_as_the_answers_do() -> None:
    """Its direction differs by the noise that it supposes in them, at most by 0.3 of a reward's variance."""
    told, predicted = (
        run(soup(Never(), candidates=16, num_inference_steps=2, surrogate=surrogate), lattice(1, 1)).images
        for surrogate in (None, Surrogate(previews=16))
    )
    unsteered = run(BaseModel(num_inference_steps=2), lattice(1, 1)).images
    assert (predicted - told).norm() < 0.2 * (unsteered - told).norm()


def test_an_option_left_out_takes_what_suits_the_policy() -> None:
    paper, pooled = (SRSoup(sharing=policy).settings(NAMES) for policy in (FixedSoup(), Pooled()))
    assert (paper.shapings, paper.correction) == ([Shaping("std")] * 3, "exact")
    assert (pooled.shapings, pooled.correction) == ([Shaping("pool")] * 3, "none")
    assert SRSoup().settings(()).candidates == WeightedSum().settings(()).candidates == (30,) * 50
    # Auto is a preset.
    expected = SRSoup(candidates=5, sharing=Pooled(), surrogate=Surrogate(), selection=Selection())
    assert Auto().settings(NAMES) == expected.settings(NAMES)
    assert Auto().selection == expected.selection


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": 0}, "candidates is 0: a search gradient compares at least 2"),
        ({"candidates": 1}, "candidates is 1"),
        ({"candidates": 5, "antithetic": True}, "candidates is 5, odd: .* even"),
        ({"candidates": 4, "antithetic": True, "surrogate": Surrogate(previews=5)}, "candidates is 5, odd"),
        ({"eta": 0.0}, r"eta is 0: .* give eta in \(0, 1\] or use BaseModel"),
        ({"shaping": "zscore"}, "shaping is 'zscore': choose one of"),
        ({"correction": "exakt"}, "correction is 'exakt': choose one of exact, raw, none"),
    ],
)
def test_bad_arguments_are_named(options: dict, message: str) -> None:
    for sampler in (SRSoup, WeightedSum):
        with pytest.raises(ValueError, match=message):
            sampler(**options)
    with pytest.raises(TypeError, match="sharing"):
        WeightedSum(sharing=ALWAYS)
    for given in ({"sharing": FixedSoup}, {"surrogate": 3}, {"selection": Selection}, {"candidates": "3"}):
        with pytest.raises(TypeError, match=f"^{next(iter(given))} is .*: give a"):
            SRSoup(**given)
    with pytest.raises(ValueError, match="sharing"):
        replace(weighted_sum(), sharing=ALWAYS)


def test_sources_that_are_not_asked_about_a_reward_have_no_say_in_its_pooled_spread() -> None:
    spread = []

    class Watched(Shaping):
        def __call__(self, rewards: Tensor, asked: Tensor | None = None) -> Tensor:
            shaped = super().__call__(rewards, asked)
            spread.append(float(shaped.square().sum() / (asked.sum() - asked.any(-1).sum())))
            return shaped

    run(soup(Pooled(), shaping=Watched("pool")), lattice(2, 1))
    assert spread == pytest.approx([1.0] * len(spread), abs=1e-4)
