"""Contract of samplers: a picture a preference, its scores, an honest ledger, and no side effects."""

from __future__ import annotations

import inspect
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import FrozenInstanceError, fields, replace
from functools import partial
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from srsoup_lightning import Limits, Preferences, samplers
from srsoup_lightning.costs.account import Account
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.costs.limits import LimitError
from srsoup_lightning.diffusion.transition import Prediction
from srsoup_lightning.oracle import OraclePolicy, RewardError, RewardOracle
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers import (
    BFS,
    DAS,
    DNO,
    DPS,
    DSG,
    DTS,
    MIRA,
    MIRADPO,
    MPGD,
    RBF,
    SES,
    SMC,
    SVDD,
    TRS,
    VASR,
    Auto,
    BaseModel,
    BestOfN,
    CoDe,
    Demon,
    DSearch,
    EpsilonGreedy,
    Fast,
    FKSteering,
    Particles,
    ReNO,
    Sampler,
    SearchOverPaths,
    SRSoup,
    UniversalGuidance,
    WeightedSum,
    ZeroOrder,
)
from srsoup_lightning.samplers.rehearsal import count
from srsoup_lightning.samplers.result import Moment, Soup
from srsoup_lightning.search.gates import AdaptiveAnchors, Gated
from srsoup_lightning.search.pooling import Pooled
from srsoup_lightning.search.selection import Selection
from srsoup_lightning.search.sharing import FixedSoup
from srsoup_lightning.search.surrogate import Surrogate
from tests.samplers.toys import NAMES, SHAPE, Tally, bind, lattice, linears, oracle, run
from tests.samplers.toys import Scorer as ToyScorer

STEPS = 6
SURROGATE = {"surrogate": Surrogate(previews=6, window=2), "selection": Selection(pool=6)}
SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "base model": BaseModel,
    "best of n": partial(BestOfN, pool=7),
    "soft best of n": partial(BestOfN, pool=7, temperature=0.5, penalty=0.2, scalarisation="tchebycheff"),
    "zero order": partial(ZeroOrder, rounds=3, scalarisation="ranks"),
    "trs": partial(TRS, warm_up=5, regions=3, batch=4, iterations=2, penalty=0.5),
    "ses": partial(SES, popsize=4, elites=3, level=1, scalarisation="tchebycheff"),
    "search over paths": partial(SearchOverPaths, noises=2),
    "weighted sum": partial(WeightedSum, candidates=4),
    "soup": partial(SRSoup, candidates=4, sharing=FixedSoup(1, 4)),
    "gated soup": partial(SRSoup, candidates=4, sharing=Gated(0.8)),
    "adaptive soup": partial(SRSoup, candidates=4, sharing=AdaptiveAnchors(0.8)),
    "pooled soup": partial(SRSoup, candidates=[4, 2], sharing=Pooled(), shaping="pool"),
    "auto": partial(Auto, candidates=[4, 2], **SURROGATE),
    "fast": partial(Fast, candidates=4, selection=Selection(pool=6, jump=True)),
    "soup of gradients": partial(SRSoup, candidates=4, sharing=FixedSoup(1, 4), gradients=True),
    "pooled soup of gradients": partial(
        SRSoup, candidates=[4, 0, 4], sharing=Pooled(), gradients=True, conflicts="mgda"
    ),
    "antithetic soup": partial(SRSoup, candidates=4, sharing=FixedSoup(1, 4), antithetic=True, shaping="ranks"),
    "particles": partial(Particles, particles=3, potential="sum", resampler="rounding", choice="draw"),
    "fk steering": partial(FKSteering, particles=3, scorings=3),
    "smc": partial(SMC, particles=3, scalarisation="tchebycheff"),
    "bfs": partial(BFS, particles=3, penalty=0.5),
    "vasr": partial(VASR, particles=3),
    "svdd": partial(SVDD, children=3, temperature=0.5),
    "unguided svdd": partial(SVDD, children=3, preview="unguided"),
    "unguided dsearch": partial(DSearch, beams=3, children=2, lookahead=1, preview="unguided"),
    "unguided epsilon greedy": partial(EpsilonGreedy, candidates=2, rounds=2, preview="unguided"),
    "unguided demon": partial(Demon, candidates=4, preview="unguided"),
    "unguided paths": partial(SearchOverPaths, paths=2, noises=2, preview="unguided"),
    "code": partial(CoDe, children=3, block=4),
    "dsearch": partial(DSearch, beams=3, children=2, width=1.5, scalarisation="ranks"),
    "dsearch with lookahead": partial(DSearch, beams=2, children=2, lookahead=2, beam_schedule="constant", penalty=0.5),
    "dts": partial(DTS, leaves=7, batch=3, scalarisation="ranks", penalty=0.5),
    "rbf": partial(RBF, num_inference_steps=STEPS, budget=17, initial=4, scalarisation="tchebycheff", penalty=0.5),
    "epsilon-greedy": partial(EpsilonGreedy, candidates=2, rounds=2, scalarisation="ranks", penalty=0.5),
    "tanh demon": partial(Demon, candidates=4),
    "boltzmann demon": partial(Demon, candidates=4, kind="boltzmann", completion=2, scalarisation="tchebycheff"),
    "dsg": partial(DSG, rate=0.5, interval=2),
    "dps": partial(DPS, conflicts="mgda"),
    "freedom": partial(DPS, scale="guidance", recurrence=2, start=0.2),
    "mpgd": partial(MPGD, conflicts="pcgrad"),
    "das": partial(DAS, particles=3, penalty=0.5),
    "das of adaptive temperature": partial(DAS, particles=3, tempering="adaptive", scalarisation="tchebycheff"),
    "reno": partial(ReNO, iterations=3, rate=2.0, scalarisation="tchebycheff", checkpointing=False),
    "dno": partial(DNO, iterations=2, rate=0.1, shuffles=2, penalty=0.2, checkpointing=False),
    "mira": partial(MIRA, iterations=3, rate=0.1, sphere=True, checkpointing=False),
    "mira-dpo": partial(MIRADPO, iterations=3, candidates=3, rate=0.1, penalty=0.5, checkpointing=False),
    "universal guidance": partial(UniversalGuidance, backward_steps=2, recurrence=2, interval=2),
}
UNTOUCHED = {  # the step at which a broken reward is found, where it isn't the first one
    "base model": "on the final image",
    "code": "at denoising step 4",
    **dict.fromkeys(("search over paths", "unguided paths", "unguided dsearch"), "at denoising step 3"),
    **dict.fromkeys(
        ("best of n", "soft best of n", "zero order", "trs", "ses", "dts", "reno", "dno", "mira", "mira-dpo"),
        f"at denoising step {STEPS}",
    ),
    "dsearch with lookahead": "at denoising step 4",
    **dict.fromkeys(("rbf", "boltzmann demon"), "at denoising step 3"),
    **dict.fromkeys(("dsg", "dps", "mpgd", "universal guidance", "particles", "bfs", "das"), "at denoising step 0"),
    **dict.fromkeys(("soup of gradients", "pooled soup of gradients"), "at denoising step 0"),
    "das of adaptive temperature": "at denoising step 0",
}
BY_GRADIENT = [name for name, make in SAMPLERS.items() if make().takes_gradients]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def concrete(kind: type[Sampler]) -> set[type[Sampler]]:
    found = set().union(*map(concrete, kind.__subclasses__()), set() if inspect.isabstract(kind) else {kind})
    return {each for each in found if each.__module__.startswith("srsoup_lightning.")}


def test_every_sampler_has_a_row() -> None:
    assert {type(make()) for make in SAMPLERS.values()} == concrete(Sampler)
    assert {kind.__name__ for kind in concrete(Sampler)} <= set(samplers.__all__)


@pytest.mark.parametrize("kind", sorted(concrete(Sampler), key=str))
def test_an_option_of_another_type_is_refused_by_name(kind: type[Sampler]) -> None:
    wrong = {"int": [2.5, "2", None], "float": ["0.5", None]}
    for option in (each for each in fields(kind) if each.init):
        for value in wrong.get(option.type, []):
            with pytest.raises(TypeError, match=f"{option.name} is {value!r}: give a"):
                kind(**{option.name: value})


@pytest.mark.parametrize("name", [name for name in BY_GRADIENT if SAMPLERS[name]().needs_gradient])
def test_a_reward_without_gradient_is_refused_by_name_before_anything_is_computed(name: str) -> None:
    sampler, tally = SAMPLERS[name](num_inference_steps=STEPS), Tally()
    asking = oracle(linears(2))
    asking.rewards["b"].is_differentiable = False
    problem = Problem(tally.denoiser(bind(sampler)), asking, 64)
    with pytest.raises(TypeError, match=f"{type(sampler).__name__} needs gradients .*, which 'b' can't give"):
        sampler.run(problem, lattice(2, 2), "a lobster", 0)
    assert not tally.counts


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_gradients_do_not_depend_on_the_mode_of_the_trainer(name: str) -> None:
    sampler, rewards = SAMPLERS[name](num_inference_steps=STEPS), linears(2)
    denoiser = bind(sampler)
    with torch.inference_mode():
        inside = run(sampler, lattice(2, 2), rewards, denoiser=denoiser)
        count(sampler, lattice(2, 2), model=denoiser)
    outside = run(sampler, lattice(2, 2), rewards, denoiser=denoiser)
    torch.testing.assert_close((inside.images, inside.rewards), (outside.images, outside.rewards))
    assert inside.ledger.gradients == outside.ledger.gradients > 0 or name == "mpgd"


@pytest.fixture(params=SAMPLERS)
def make(request: pytest.FixtureRequest) -> Callable[..., Sampler]:
    return lambda **options: SAMPLERS[request.param](num_inference_steps=STEPS, **options)


class Hostile:
    """A reward that writes into its images, its prompts and the answer before, once it has its score."""

    def __init__(self, score: Callable[[Tensor], Tensor]) -> None:
        self.of, self.answer = score, torch.zeros(0)

    def __call__(self, images: Tensor, prompts: list[str]) -> Tensor:
        self.answer.fill_(7.0)
        self.answer = self.of(images)
        images *= 0.5
        prompts.clear()
        return self.answer


def same(one: Soup, other: Soup) -> None:
    torch.testing.assert_close((one.images, one.rewards), (other.images, other.rewards), rtol=0, atol=0)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_soup_has_a_picture_and_its_scores_for_every_preference(make: Callable, count: int) -> None:
    preferences, rewards = lattice(count, 2), linears(count)
    soup = run(make(), preferences, rewards, prompt="a snail", seed=5)
    assert (soup.prompt, soup.seed) == ("a snail", 5)
    assert (soup.reward_names, soup.preference_names) == (NAMES[:count], tuple(preferences.names))
    torch.testing.assert_close(soup.preferences, preferences.weights)
    assert soup.images.shape == (len(preferences), *SHAPE)
    assert soup.images.dtype == soup.rewards.dtype == torch.float32
    assert 0 <= soup.images.min() <= soup.images.max() <= 1
    torch.testing.assert_close(soup.rewards, torch.stack([score(soup.images) for score in rewards.values()], 1))


def test_a_reward_without_weight_is_held_out(make: Callable) -> None:
    """It changes no picture, nobody asks it on the way, and final pictures have its score."""
    points, rewards = [[1.0, 0.0], [0.5, 0.5]], linears(3)
    alone = run(make(), Preferences(NAMES[:2], points), {name: rewards[name] for name in NAMES[:2]})
    beside = run(make(), Preferences(NAMES, [[*point, 0.0] for point in points]), rewards)
    torch.testing.assert_close(beside.images, alone.images, rtol=0, atol=0)
    assert beside.ledger.queries == alone.ledger.queries | {"c": 0}
    torch.testing.assert_close(beside.rewards[:, 2], rewards["c"](beside.images))


@pytest.mark.parametrize("max_batch", [1, 5, 64])
@pytest.mark.parametrize("evaluations", [1, 2])
def test_the_ledger_says_what_was_really_called(make: Callable, max_batch: int, evaluations: int) -> None:
    sampler, tally = make(max_batch=max_batch), Tally()
    soup = run(sampler, lattice(2, 3), tally.rewards(linears(2)), denoiser=tally.denoiser(bind(sampler), evaluations))
    final = len(soup.images.unique(dim=0))  # scored once more, which is no query
    assert soup.ledger.queries == {name: tally.counts[name] - final for name in NAMES[:2]}
    assert soup.ledger.total_queries == sum(soup.ledger.queries.values())
    assert soup.ledger.nfe == evaluations * tally.counts["denoise"] + tally.counts["denoise_unguided"]
    assert soup.ledger.decodes == tally.counts["decode"] + tally.counts["decode_preview"]
    assert soup.ledger.seconds > 0
    assert soup.ledger.device == "cpu"
    assert tally.largest <= max_batch


def test_a_plan_is_exact_for_one_preference_and_never_exceeded_where_costs_vary(make: Callable) -> None:
    sampler = make()
    alone, several = (
        (run(sampler, points).ledger, count(sampler, points, model=bind(sampler)))
        for points in (lattice(1, 1), lattice(2, 3))
    )
    spent, planned = alone
    assert spent.queries == planned.queries
    assert spent.nfe == pytest.approx(planned.nfe, rel=0.15 if isinstance(sampler, DTS) else 0)  # a tree of its values
    spent, planned = several
    if sampler.costs_less:
        assert all(spent.queries[name] <= planned.queries[name] for name in NAMES[:2])
        assert spent.nfe <= planned.nfe


def test_a_limit_ends_a_soup_before_it_is_exceeded(make: Callable) -> None:
    """Without room for half of what it would take, however little a plan had expected."""
    sampler, whole = make(max_batch=3), run(make(max_batch=3), lattice(2, 2)).ledger
    halves = [Limits(max_nfe=whole.nfe // 2)]
    halves += [Limits(max_queries=whole.total_queries // 2)] if whole.total_queries else []
    for limits in halves:
        tally = Tally()
        problem = Problem(tally.denoiser(bind(sampler)), oracle(tally.rewards(linears(2))), 3)
        with (
            pytest.raises(LimitError, match="were needed"),
            problem.meter.limited(limits, Account({}), Ledger.of(NAMES[:2]), {}),
        ):
            sampler.run(problem, lattice(2, 2), "a lobster", 0)
        assert tally.counts["denoise"] <= (limits.max_nfe or whole.nfe)
        assert tally.counts["a"] + tally.counts["b"] <= (limits.max_queries or whole.total_queries)


def test_a_soup_depends_on_its_prompt_and_seed_alone(make: Callable) -> None:
    sampler, preferences = make(), lattice(2, 2)
    before = torch.get_rng_state()
    first = run(sampler, preferences)
    torch.testing.assert_close(torch.get_rng_state(), before, rtol=0, atol=0)
    others = [run(sampler, preferences, prompt="a snail"), run(sampler, preferences, seed=1)]
    torch.manual_seed(1234)
    same(run(make(), preferences), first)
    same(run(sampler, preferences), first)
    for other in others:
        assert (other.images - first.images).abs().amax((1, 2, 3)).min() > 1e-2


def test_the_size_of_a_batch_changes_nothing(make: Callable) -> None:
    pictures = [run(make(max_batch=max_batch), lattice(3, 2)).images for max_batch in (1, 3, 64)]
    for other in pictures[1:]:
        torch.testing.assert_close(other, pictures[0], rtol=0, atol=1e-5)


def test_the_step_callback_is_called_up_to_the_total(make: Callable) -> None:
    reported: list[tuple[Moment, int]] = []
    soup = run(make(max_batch=3), lattice(2, 2), on_step=lambda moment: reported.append((moment, moment.ledger.nfe)))
    moments, spent = zip(*reported, strict=True)
    assert [moment.step for moment in moments] == list(range(1, len(moments) + 1))
    assert {moment.steps for moment in moments} == {len(moments)}
    assert list(spent) == sorted(spent)
    assert spent[-1] == soup.ledger.nfe
    assert all(moment.ledger is soup.ledger for moment in moments)


def test_samplers_are_frozen_and_bad_numbers_are_named(make: Callable) -> None:
    sampler = make()
    for field in fields(sampler):
        with pytest.raises(FrozenInstanceError):
            setattr(sampler, field.name, None)
    for option, number, advice in (
        ("num_inference_steps", 0, "give at least 1"),
        ("max_batch", 0, ""),
        ("eta", 1.5, r"give a number in \[0, 1\]"),
        ("eta", -0.5, ""),
    ):
        with pytest.raises(ValueError, match=f"{option} is {number}: {advice}"):
            replace(sampler, **{option: number})


broken = Mock(side_effect=OSError("the server is down"))
BROKEN = {
    "raises": (broken, "OSError: the server is down"),
    "column": (lambda images: images.mean((2, 3)), r"returned \(\d, 3\).*a tensor of shape \(\d,\)"),
    "scalar": (lambda images: images.mean(), r"returned \(\)"),
    "list": (lambda images: [0.0] * len(images), "returned list"),
    "nan": (lambda images: images.mean((1, 2, 3)) / torch.tensor(0.0) * 0, "returned nan.*finite numbers"),
    "infinite": (lambda images: images.mean((1, 2, 3)) + torch.inf, "returned inf"),
}


@pytest.mark.parametrize(("score", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_reward_is_named_with_its_step_in_one_line(make: Callable, score: Callable, message: str) -> None:
    with pytest.raises(RewardError, match=f"reward 'b' .*{message}") as caught:
        run(make(), Preferences(["a", "b"], [[0.5, 0.5]]), linears(1) | {"b": score})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_step_at_which_a_reward_broke_is_told(name: str) -> None:
    sampler = SAMPLERS[name](num_inference_steps=STEPS)
    with pytest.raises(RewardError, match=UNTOUCHED.get(name, "at denoising step 1")):
        run(sampler, Preferences(["b"], [[1.0]]), {"b": broken})


@pytest.mark.parametrize("name", sorted(SAMPLERS.keys() - {"base model", *BY_GRADIENT}))
def test_scores_of_any_number_type_will_do(name: str) -> None:
    whole = {"a": lambda images: (images > 0.5).sum((1, 2, 3))}
    double = {"a": lambda images: (images > 0.5).sum((1, 2, 3)).double()}
    same(*(run(SAMPLERS[name](num_inference_steps=STEPS), lattice(1, 1), counts) for counts in (whole, double)))


@pytest.mark.parametrize("max_batch", [1, 3, 64])
def test_a_background_reward_gives_the_same_soup_and_the_same_bill(make, max_batch: int) -> None:
    here, beside = (run(make(max_batch=max_batch), lattice(2, 3), on_cpu=names) for names in ((), ("a", "b")))
    same(here, beside)
    assert (here.ledger.queries, here.ledger.nfe) == (beside.ledger.queries, beside.ledger.nfe)


def test_the_network_does_not_wait_for_a_background_reward() -> None:
    """The reward holds its first answer back until the network has seen the next chunk: waiting for it would hang."""
    sampler = WeightedSum(num_inference_steps=STEPS, candidates=4, max_batch=2)
    seen, next_chunk = threading.Event(), threading.Event()
    denoiser, calls = bind(sampler), itertools.count(1)

    def predict(x: Tensor, level: int) -> Prediction:
        if next(calls) >= 3:  # the trajectory itself and the first chunk come before
            seen.wait(timeout=20)
            next_chunk.set()
        return denoiser.denoise(x, level)

    def patient(images: Tensor) -> Tensor:
        seen.set()
        assert next_chunk.wait(timeout=20)
        return linears(1)["a"](images)

    run(sampler, lattice(1, 1), {"a": patient}, denoiser=replace(denoiser, denoise=predict), on_cpu=["a"])


def test_a_background_reward_that_fails_is_named() -> None:
    sampler = WeightedSum(num_inference_steps=STEPS, candidates=4)
    with pytest.raises(RewardError, match="reward 'a' failed at denoising step 1: OSError: the server is down"):
        run(sampler, lattice(1, 1), {"a": broken}, on_cpu=["a"])


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in BY_GRADIENT])
@pytest.mark.parametrize("cached", [[], ["a", "b"]])
def test_a_reward_that_writes_into_its_tensors_harms_nothing(name: str, cached: list[str]) -> None:
    sampler, preferences, rewards = SAMPLERS[name](num_inference_steps=STEPS), lattice(2, 2), linears(2)
    hostile = {key: ToyScorer(Hostile(score)) for key, score in rewards.items()}
    asking = RewardOracle(hostile, OraclePolicy(cached=cached))
    soup = sampler.run(Problem(bind(sampler), asking, 64, "a lobster"), preferences, "a lobster", 0)
    same(soup, run(sampler, preferences, rewards))


@pytest.mark.parametrize(
    "ambient", [partial(default_dtype, torch.float64), partial(torch.autocast, "cpu", torch.bfloat16)]
)
def test_the_precision_around_a_sampler_changes_nothing(
    make: Callable[..., Sampler], ambient: Callable[[], AbstractContextManager[None]]
) -> None:
    expected = run(make(), lattice(2, 2))
    with ambient():
        found = run(make(), lattice(2, 2))
    same(found, expected)
    assert {found.images.dtype, found.rewards.dtype} == {torch.float32}
