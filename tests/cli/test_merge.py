"""Merging of adapters: against dense products, and against a soup of them in one network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from srsoup_lightning.adapters import RewardedSoup
from srsoup_lightning.cli.main import main
from srsoup_lightning.diffusion.loading.loras import add_loras
from srsoup_lightning.diffusion.loading.resident import add_adapters
from srsoup_lightning.diffusion.lora_merging import Factors, mean_of_factors, mean_of_products
from srsoup_lightning.finetune import LoRA
from srsoup_lightning.runs.adapter import read_facts, used_adapters
from srsoup_lightning.runs.reading import Run
from tests.diffusion.conftest import prediction
from tests.diffusion.drawing import backbone_of
from tests.diffusion.pipelines import make
from tests.finetune.fits import fit, make_fit
from tests.samplers.toys import normal


def factors(seed: int, rank: int = 3) -> Factors:
    return Factors(normal(rank, 7, seed=seed), normal(5, rank, seed=seed + 50))


def test_a_mean_of_products_is_exact_and_of_a_lower_rank_the_nearest() -> None:
    parts, weights = [factors(0), factors(1, rank=2)], [0.3, 1.2]
    dense = sum(weight * part.up @ part.down for weight, part in zip(weights, parts, strict=True))
    torch.testing.assert_close(mean_of_products(parts, weights).product, dense)
    short = mean_of_products(parts, weights, rank=2)
    assert (short.down.shape, short.up.shape) == ((2, 7), (5, 2))
    values = torch.linalg.svdvals(dense)
    torch.testing.assert_close((short.product - dense).norm(), values[2:].norm(), rtol=1e-4, atol=1e-4)


def test_a_mean_of_factors_is_that_of_products_where_one_matrix_is_shared() -> None:
    first, second = factors(0), factors(1)
    shared = second._replace(down=first.down)
    products = mean_of_products([first, shared], [0.5, 0.5]).product
    torch.testing.assert_close(mean_of_factors([first, shared], [0.5, 0.5]).product, products)
    # Of independent factors, a quarter of each product is left, and cross terms.
    apart = mean_of_factors([first, second], [0.5, 0.5]).product
    expected = sum(a.up @ b.down for a in (first, second) for b in (first, second)) / 4
    torch.testing.assert_close(apart, expected)
    with pytest.raises(ValueError, match=r"the LoRAs have ranks \[2, 3\], and factors of one rank alone have a mean"):
        mean_of_factors([first, factors(1, rank=2)], [0.5, 0.5])


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two adapters of fits, from different seeds."""
    roots = [tmp_path_factory.mktemp("fit") for _ in range(2)]
    for seed, root in enumerate(roots):
        fit(root, make_fit(lora=LoRA(rank=2, alpha=6, targets=("to_q", "to_v"), seed=seed), seed=seed), rounds=1)
    return [str(root / "adapter") for root in roots]


def test_a_merged_adapter_predicts_as_the_soup_and_starts_a_fit(adapters: list[str], tmp_path: Path) -> None:
    out = str(tmp_path / "merged")
    assert main(["merge", "--adapters", f"{{{adapters[0]}: 0.25, {adapters[1]}: 0.75}}", "--out", out]) == 0
    pipeline = make("SD")
    add_loras(pipeline, {out: 1.0})
    merged = prediction(backbone_of(pipeline))
    backbone = backbone_of(make("SD"))
    add_adapters(backbone, RewardedSoup(dict(zip("ab", adapters, strict=True))))
    assert backbone.adapters is not None
    with backbone.adapters.given(torch.tensor([[0.25, 0.75]])):
        torch.testing.assert_close(prediction(backbone), merged, rtol=0, atol=1e-4)
    facts, parts = read_facts(Path(out)), [read_facts(Path(adapter)) for adapter in adapters]
    assert facts is not None
    assert facts.objective == "mean of products of PolicyGradient"
    spent = sum(part.costs.total_queries for part in parts if part is not None)
    assert (facts.costs.total_queries, facts.total.total_queries) == (0, spent)
    again = [tmp_path / "again" / name for name in "ab"]
    for seed, root in enumerate(again):
        fit(root, make_fit(lora=LoRA(start=out), seed=seed), rounds=1)
    used = used_adapters({str(root / "adapter"): 1.0 for root in again})
    own = sum(each.facts.costs.total_queries for each in used if each.facts is not None)
    training = Run("soup", tmp_path, (), adapters=used).training
    assert training is not None
    assert training.total_queries == spent + own  # what both began from counts once


def test_bad_merges_are_refused_in_one_line(
    adapters: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "merged")
    for options, message in (
        (["--adapters", "{}"], "adapters are empty: give {folder: weight} for each"),
        (["--adapters", f"{{{tmp_path}: 1}}"], "no adapter"),
        (["--adapters", f"{{{adapters[0]}: .nan}}"], "the weight of an adapter is nan"),
        (["--adapters", f"{{{adapters[0]}: 1}}", "--rank", "0"], "rank is 0: give at least 1"),
    ):
        assert main(["-q", "merge", *options, "--out", out]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert message in line
    command = ["merge", "--adapters", f"{{{adapters[0]}: 1}}", "--out", out]
    assert main(command) == 0
    assert main(command) == 2
    assert "holds an adapter: give another --out" in capsys.readouterr().err
