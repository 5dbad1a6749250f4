"""Diffusion-DPO: the published loss, its signs and noise, pairs from three sources, and a mixture that is tilted."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.flow import FlowAncestral
from srsoup_lightning.finetune import DiffusionDPO, PairTable, RankedRuns, RankedSamples, Training
from srsoup_lightning.finetune.finetuning import Finetuning
from srsoup_lightning.finetune.picture_pairs import PicturePair
from srsoup_lightning.finetune.rehearsal import rehearse_round
from srsoup_lightning.problem import Problem
from srsoup_lightning.search.ranked_pairs import margins, matched, number_of_pairs
from srsoup_lightning.search.scalarise import Value
from tests.diffusion.drawing import backbone_of
from tests.diffusion.pipelines import make
from tests.finetune.tilted import Tilted, train, tuning, with_kernel
from tests.report.runs import make_run
from tests.samplers.toys import oracle

PROMPTS = ["a cat", "a dog"]
FLOW = FlowAncestral(tuple(1 - level / 8 for level in range(9)), 1.0)


def dpo(**options: object) -> DiffusionDPO:
    small = {"num_inference_steps": 4, "groups": 2, "group_size": 4, "draws": 2, "train_levels": 8, "beta": 20.0}
    return DiffusionDPO(**small | options)


def collected(objective: DiffusionDPO, policy: Tilted, **changes: object) -> Finetuning:
    fit = tuning(objective, policy, **changes)
    fit.collect(PROMPTS)
    return fit


def published(fit: Finetuning, policy: Tilted, kind: str) -> Tensor:
    """Mean loss of a round as in the authors' code, from the outputs of a network of this kind of prediction."""
    losses, objective = [], fit.objective
    for rollout in fit.rollouts:
        denoiser = rollout.problem.denoiser.reschedule(objective.train_levels, 1.0)
        clean = torch.cat([rollout.tensors["clean"][rollout.tensors[name]] for name in ("winner", "loser")]).double()
        for index, level in enumerate(rollout.steps):
            signal, share = denoiser.kernel.shares(level)
            noise = rollout.noise.normal(objective.items, "pair", index).repeat(2, 1, 1, 1).double()
            x = signal * clean + share * noise
            targets = {"epsilon": noise, "v": signal * noise - share * clean, "flow": noise - clean}

            def differences(x: Tensor = x, level: int = level, target: Tensor = targets[kind]) -> Tensor:
                x0, found = denoiser.denoise(x, level)  # noqa: B023 - called before the next turn
                signal, share = denoiser.kernel.shares(level)  # noqa: B023
                output = {"epsilon": found, "v": signal * found - share * x0, "flow": found - x0}[kind]
                winner, loser = (output - target).pow(2).mean(dim=[1, 2, 3]).chunk(2)
                return winner - loser

            with policy.reference():
                reference = differences()
            inside = -0.5 * objective.beta * (differences() - reference)
            losses.append(-1 * torch.nn.functional.logsigmoid(inside).mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize(("kind", "target"), [("epsilon", None), ("v", "velocity"), ("flow", None)])
@pytest.mark.parametrize("match", ["mirrored", "all"])
def test_the_loss_and_its_gradient_are_the_published_ones_in_parts_of_any_size(
    kind: str, target: str | None, match: str
) -> None:
    policy = Tilted(0.7)
    changes = {"change": lambda denoiser: with_kernel(denoiser, FLOW)} if kind == "flow" else {}
    for train_batch in (2, 4, 100):
        objective = dpo(target=target, pairs=RankedSamples(match), train_batch=train_batch, num_inference_steps=8)
        fit = collected(objective, policy, **changes)
        sampled = fit.meter.ledger.nfe
        found = torch.stack([fit.loss(batch).value for batch in range(fit.batches)]).mean()
        expected = published(fit, policy, kind)
        assert expected.item() != pytest.approx(log(2), abs=1e-3)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)
        slopes = [torch.autograd.grad(each, policy.odds)[0] for each in (found, expected)]
        torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-6)
        passes = number_of_pairs(4, match) * 2 * 2  # pairs, groups and draws
        assert (fit.meter.ledger.nfe - sampled, fit.meter.ledger.gradients) == (4 * passes, 2 * passes)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-2, 2), min_size=4, max_size=4), st.floats(0.1, 100))
def test_a_better_winner_lowers_the_loss_and_the_start_pulls_by_a_quarter_of_beta(errors: list, beta: float) -> None:
    error, reference = torch.tensor(errors, dtype=torch.float64).view(2, 2, 1)
    start = reference.clone().requires_grad_()
    loss = -torch.nn.functional.logsigmoid(margins(start, reference, beta)).mean()
    assert loss.item() == pytest.approx(log(2))
    (slope,) = torch.autograd.grad(loss, start)
    torch.testing.assert_close(slope, beta / 4 * torch.tensor([[1.0], [-1.0]], dtype=torch.float64))
    better = error - torch.tensor([[0.1], [0.0]])
    assert margins(better, reference, beta) > margins(error, reference, beta)
    torch.testing.assert_close(margins(error.flip(0), reference.flip(0), beta), -margins(error, reference, beta))


def test_a_pair_shares_noise_and_level_so_equal_pictures_cancel_and_swapped_ones_change_the_sign() -> None:
    fit, margin = collected(dpo(), Tilted(0.7)), {}
    for name in ("given", "swapped", "equal"):
        for rollout in fit.rollouts:
            tensors = rollout.tensors
            if name != "given":
                tensors["winner"], tensors["loser"] = tensors["loser"], tensors["winner"]
            if name == "equal":
                tensors["winner"] = tensors["loser"]
        margin[name] = torch.stack([fit.loss(batch).logs["margin"] for batch in range(fit.batches)])
    assert margin["given"].abs().max() > 1e-3
    torch.testing.assert_close(margin["swapped"], -margin["given"])
    assert not margin["equal"].any()


@pytest.mark.parametrize("train_levels", [1, 7, 1000])
def test_levels_are_drawn_evenly_from_the_whole_schedule(train_levels: int) -> None:
    objective = dpo(draws=5, train_levels=train_levels, groups=40)
    levels = [rollout.steps for rollout in collected(objective, Tilted()).rollouts]
    for part in range(5):
        inside = [steps[part] for steps in levels]
        assert min(inside) >= part * train_levels // 5
        assert max(inside) < -(-(part + 1) * train_levels // 5)
    assert len({level for steps in levels for level in steps}) > min(train_levels, 150) - 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 5.0]), min_size=2, max_size=7))
def test_matches_are_the_pairs_of_the_ranking(numbers: list[float]) -> None:
    values, ranking = torch.tensor(numbers), sorted(numbers, reverse=True)
    ends = [(ranking[k], ranking[-1 - k]) for k in range(len(numbers) // 2)]
    expected = {"extremes": ends[:1], "mirrored": ends, "all": list(combinations(ranking, 2))}
    for match, pairs in expected.items():
        winner, loser, decided = matched(values, match)
        found = list(zip(values[winner].tolist(), values[loser].tolist(), strict=True))
        assert Counter(found) == Counter(pairs)
        assert decided.tolist() == [better > worse for better, worse in found]
        assert len(found) == number_of_pairs(len(numbers), match)
    assert len({*winner.tolist(), *loser.tolist()}) == len(numbers)


def test_pairs_without_a_winner_do_not_count_and_the_others_make_up_for_them() -> None:
    halves = tuning(dpo(pairs=RankedSamples("all")), Tilted(0.7), lambda images: (images.mean((1, 2, 3)) > 0.5).float())
    share = halves.collect(PROMPTS)["pairs/decided"]
    weights = torch.cat([rollout.tensors["weight"] for rollout in halves.rollouts])
    assert 0 < share < 1
    assert weights.mean().item() == pytest.approx(1)
    torch.testing.assert_close(weights.unique(), torch.tensor([0.0, 1 / share]))
    equal = collected(dpo(), Tilted(0.7), reward=lambda images: images.new_ones(len(images)))
    assert not any(equal.loss(batch).value.item() for batch in range(equal.batches))


def test_training_on_own_samples_makes_the_winners_more_frequent() -> None:
    policy = Tilted()
    objective = dpo(group_size=16, pairs=RankedSamples("mirrored"), train_batch=100)
    history = train(objective, policy, 12, 0.3, PROMPTS)
    assert history[0]["accuracy"] == 0.5
    assert history[-1]["accuracy"] > 0.6
    assert history[-1]["value"] > history[0]["value"] + 0.5
    assert policy.odds.item() > 1


@pytest.mark.parametrize(("dropout", "empty"), [(0.0, 0), (0.5, 40)])
def test_passes_without_a_caption_are_of_the_empty_prompt(dropout: float, empty: int) -> None:
    fit = collected(dpo(groups=10, draws=8, caption_dropout=dropout), Tilted())
    bind, bound = fit.problem_of, []
    fit.problem_of = lambda prompt, meter: bound.append(prompt) or bind(prompt, meter)
    for batch in range(fit.batches):
        fit.loss(batch)
    assert set(bound) <= {""}
    assert abs(len(bound) - empty) <= 15 * (dropout > 0)


def pictures(folder: Path, shades: list[int], side: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for shade in shades:
        Image.fromarray(np.full((side, side, 3), shade, np.uint8)).save(folder / f"{shade}.png")


def table(root: Path, rows: list[object], side: int = 2) -> Path:
    pictures(root / "pictures", [100, 120, 140, 160], side)
    path = root / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(prompt: str, winner: int, loser: int) -> dict[str, str]:
    return {"prompt": prompt, "winner": f"pictures/{winner}.png", "loser": f"pictures/{loser}.png"}


def shades(fit: Finetuning) -> list[tuple[str, int, int]]:
    """Prompts and shades of all pairs of a round, read off their latents."""
    found = []
    for rollout in fit.rollouts:
        grey = ((rollout.tensors["clean"].mean((1, 2, 3)) / 8 + 0.5) * 255).round().int()
        pairs = zip(grey[rollout.tensors["winner"]], grey[rollout.tensors["loser"]], strict=True)
        found += [(rollout.noise.prompt, int(winner), int(loser)) for winner, loser in pairs]
    return found


@pytest.mark.parametrize("inside", [True, False])
def test_a_table_gives_its_pairs_and_prompts_and_asks_no_reward(tmp_path: Path, inside: bool) -> None:
    path = table(tmp_path, [row("a cat", 160, 100), row("a dog", 120, 140), row("a cat", 140, 120)])
    if not inside:
        path = path.rename(tmp_path.parent / f"{tmp_path.name}.jsonl")
    pairs = PairTable(str(path), None if inside else str(tmp_path))
    fit = tuning(dpo(groups=3, group_size=2, pairs=pairs), Tilted(0.5), lambda images: pytest.fail("asked"))
    assert fit.collect(["a pig"]) == {}
    cats, dogs = [("a cat", 160, 100), ("a cat", 140, 120)], [("a dog", 120, 140)]
    assert Counter(shades(fit)) == Counter(2 * cats + 2 * dogs)  # a group of each row's prompt; one pair comes twice
    assert fit.meter.ledger.nfe == 0
    losses = [fit.loss(batch) for batch in range(fit.batches)]
    expected = published(fit, fit.policy, "epsilon").item()
    assert sum(loss.value.item() for loss in losses) / len(losses) == pytest.approx(expected, rel=1e-4)
    assert len({float(loss.logs["margin"]) for loss in losses}) == len(losses)


def test_the_costs_of_pairs_on_disk_are_rehearsed_with_pictures_of_any_size(tmp_path: Path) -> None:
    path = table(tmp_path, [row("a cat", 160, 100), row("a dog", 120, 140)], side=9)
    objective = dpo(pairs=PairTable(str(path)), draws=3)
    ledger, asked = rehearse_round(Training(objective=objective), Preferences(["a"], [[1.0]]))
    assert (ledger.nfe, ledger.gradients, ledger.total_queries) == (4 * 2 * 4 * 3, 2 * 2 * 4 * 3, 0)
    assert not any(asked.values())


def test_scored_runs_are_ranked_by_the_value_of_the_fit(tmp_path: Path) -> None:
    scores = {(1.0, 0.0): (3.0, 100.0), (0.5, 0.5): (2.0, 400.0), (0.0, 1.0): (1.0, 300.0)}
    run = make_run(tmp_path / "run", lambda prompt, seed, weights: scores[tuple(weights)], ["a cat"], [0], size=(2, 2))
    files = [Path(run) / "samples/0/0" / f"{k}.png" for k in range(3)]
    pairs = RankedRuns((run,), "all")

    def ranked(*weights: float) -> list[PicturePair]:
        return pairs.read(("jpeg", "clip"), Value(torch.tensor(weights, dtype=torch.float32)))["a cat"]

    assert ranked(1, 0) == [PicturePair(*pair) for pair in combinations(files, 2)]
    assert set(ranked(0, 1)) == {PicturePair(files[a], files[b]) for a, b in [(1, 2), (1, 0), (2, 0)]}
    jpeg, clip = (torch.tensor(each).std(correction=0) for each in zip(*scores.values(), strict=True))
    values = [0.6 * a / jpeg + 0.4 * b / clip for a, b in scores.values()]
    order = sorted(range(3), key=lambda k: -values[k])
    assert ranked(0.6, 0.4) == [PicturePair(files[a], files[b]) for a, b in combinations(order, 2)]
    rows = [json.loads(line) for line in (Path(run) / "samples.jsonl").read_text().splitlines()]
    rows[0]["failed"] = ["clip"]
    judged = tmp_path / "judged.jsonl"
    judged.write_text("".join(json.dumps(each | {"image": f"run/{each['image']}"}) + "\n" for each in rows))
    later = RankedRuns((str(judged),))
    assert later.read(("jpeg", "clip"), Value(torch.tensor([0.0, 1.0])))["a cat"] == [PicturePair(files[1], files[2])]
    fit = tuning(dpo(groups=1, group_size=1, pairs=RankedRuns((str(judged),))), Tilted())
    fit.costs.queries = {"jpeg": 0}
    fit.problem_of = lambda prompt, meter, bind=fit.problem_of: _renamed(bind(prompt, meter))
    fit.collect(["a pig"])
    assert shades(fit) == [("a cat", 255, 0)]


def _renamed(problem: object) -> object:
    problem.rewards = ("jpeg",)
    return problem


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "pairs.jsonl has no pairs: give a row of prompt, winner, loser for each"),
        ([row("a cat", 100, 100)], "line 1 has 'pictures/100.png' as winner and as loser: give two pictures"),
        ([row("a cat", 100, 120), row("a cat", 50, 100)], "line 2 names '.*50.png', which is no file"),
        ([{"prompt": "a cat", "winner": "pictures/100.png"}], "line 1 has no text as loser: rows need prompt, winner"),
        ([{"prompt": 7, "winner": "a", "loser": "b"}], "line 1 has no text as prompt"),
        (["a cat"], "line 1 is damaged"),
        (None, "no table of pairs '.*pairs.jsonl': give a .jsonl file of prompt, winner, loser"),
    ],
)
def test_a_bad_table_is_one_clear_line(tmp_path: Path, rows: list | None, message: str) -> None:
    path = table(tmp_path, rows or [])
    if rows is None:
        path.unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
        tuning(dpo(pairs=PairTable(str(path))), Tilted()).collect(["a pig"])
    assert "\n" not in str(raised.value)


def test_pictures_of_another_size_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path, [row("a cat", 100, 120)], side=4)
    with pytest.raises(ValueError, match=r"100.png has latents of shape \(3, 4, 4\), and the model draws \(3, 2, 2\)"):
        tuning(dpo(pairs=PairTable(str(path))), Tilted()).collect(["a pig"])


@pytest.mark.parametrize(
    ("scores", "reward", "message"),
    [
        ((1.0, 2.0), "aesthetic", "run has no scores by 'aesthetic', only by jpeg, clip: score its pictures by srsoup"),
        ((1.0, 2.0), "jpeg", "no prompt of .*run has two pictures with different values"),
        (None, "jpeg", "no run '.*run': give a run directory"),
    ],
)
def test_a_bad_run_is_one_clear_line(tmp_path: Path, scores: tuple | None, reward: str, message: str) -> None:
    if scores is not None:
        make_run(tmp_path / "run", lambda *_: scores, size=(2, 2))
    with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
        RankedRuns((str(tmp_path / "run"),)).read((reward,), Value(torch.tensor([1.0])))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, "beta is 0.0: give a number above 0, such as 5000"),
        ({"target": "x0"}, "target is 'x0': choose one of noise, velocity"),
        ({"draws": 0}, "draws is 0: give at least 1"),
        ({"train_levels": 0}, "train_levels is 0: give at least 1"),
        ({"caption_dropout": 1.0}, "caption_dropout is 1.0: give a share"),
        ({"train_batch": 1}, "train_batch is 1: a pair has two latents, give at least 2"),
        ({"group_size": 1}, "group_size is 1: pairs are made of the samples of a prompt, give at least 2"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dpo(**options)


def test_more_levels_than_the_scheduler_has_are_refused_before_anything_is_sampled() -> None:
    pipeline = make("SD")
    leading = {"timestep_spacing": "leading", "steps_offset": 1}  # its 1000 times are 1 ... 1000, one too high
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, **leading)
    denoiser = backbone_of(pipeline).bind("a cat", num_inference_steps=2, guidance_scale=1.0, eta=1.0)
    problem = Problem(denoiser, oracle({}), 4)
    dpo(train_levels=500).check(problem)
    for levels in (1000, 2000):
        with pytest.raises(ValueError, match=rf"train_levels is {levels}, which the model's scheduler refuses \("):
            dpo(train_levels=levels).check(problem)
    for build, message in [(lambda: RankedSamples("best"), "match is 'best'"), (lambda: RankedRuns(()), "runs is")]:
        with pytest.raises(ValueError, match=message):
            build()
