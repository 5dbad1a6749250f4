"""torchmetrics' own functions, one image at a time, and what a metric must not do inside a reward."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
    total_variation,
)
from torchmetrics.image import (
    PeakSignalNoiseRatio,
    SpectralAngleMapper,
    StructuralSimilarityIndexMeasure,
    TotalVariation,
)

from rewards import Colorfulness, MetricReward
from tests.rewards.conftest import pictures, smooth

PROMPTS = ["a", "bb", "ccc", "dddd"]


class Length(Metric):
    """Mean length of the prompts; it says nothing of which is better, nor of gradients, and sees the whole state."""

    full_state_update = True
    higher_is_better = None

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(1, 1)
        self.add_state("lengths", [], dist_reduce_fx="cat")

    def update(self, images: Tensor, prompts: list[str]) -> None:
        assert len(images) == len(prompts)
        self.lengths += [torch.tensor([float(len(prompt))]) for prompt in prompts]

    def compute(self) -> Tensor:
        return torch.cat(self.lengths).mean()


@pytest.fixture
def reference() -> Tensor:
    return smooth(24, 20).mean(0)


def test_total_variation_is_negated() -> None:
    images = smooth(24, 20)
    expected = -total_variation(images, reduction="none")
    torch.testing.assert_close(MetricReward(TotalVariation()).score(images, PROMPTS), expected)
    whole = MetricReward(TotalVariation(reduction="none"), each=False)
    torch.testing.assert_close(whole.score(images, PROMPTS), expected)
    torch.testing.assert_close(whole.score(images[:1], PROMPTS[:1]), expected[:1])


def test_comparisons_with_a_reference(reference: Tensor) -> None:
    images = smooth(24, 20)
    repeated = reference.expand_as(images)
    noise_ratio = MetricReward(PeakSignalNoiseRatio(data_range=1.0), reference=reference)
    expected = [peak_signal_noise_ratio(image, reference, data_range=1.0) for image in images]
    torch.testing.assert_close(noise_ratio.score(images, PROMPTS), torch.stack(expected))
    expected = structural_similarity_index_measure(images, repeated, data_range=1.0, reduction="none")
    for each, reduction in ((True, "elementwise_mean"), (False, "none")):
        metric = StructuralSimilarityIndexMeasure(data_range=1.0, reduction=reduction)
        torch.testing.assert_close(
            MetricReward(metric, reference=reference, each=each).score(images, PROMPTS), expected
        )


def test_the_closed_form_of_a_shift(reference: Tensor) -> None:
    grey = torch.full((3, 8, 8), 0.5)
    judge = MetricReward(PeakSignalNoiseRatio(data_range=1.0), reference=grey)
    shifts = torch.tensor([0.5, 0.1, 0.01])
    torch.testing.assert_close(judge.score(grey - shifts.view(3, 1, 1, 1), PROMPTS[:3]), -20 * shifts.log10())


def test_a_reference_from_a_file(tmp_path: Path) -> None:
    images = smooth(24, 20)
    pictures(images[:1])[0].save(tmp_path / "reference.png")
    judge = MetricReward(SpectralAngleMapper(), reference=tmp_path / "reference.png")
    by_tensor = MetricReward(SpectralAngleMapper(), reference=images[0])
    torch.testing.assert_close(judge.score(images, PROMPTS), by_tensor.score(images, PROMPTS))
    assert judge.score(images, PROMPTS)[0].item() == pytest.approx(0, abs=2e-3)
    assert (judge.score(images, PROMPTS)[1:] < -0.01).all()


def test_prompts_and_the_sign_by_argument() -> None:
    images = smooth(24, 20)
    longer = MetricReward(Length(), with_prompts=True, higher_is_better=True)
    assert longer.score(images, PROMPTS).tolist() == [1, 2, 3, 4]
    shorter = MetricReward(Length(), with_prompts=True, higher_is_better=False)
    assert shorter.score(images, PROMPTS).tolist() == [-1, -2, -3, -4]
    rougher = MetricReward(TotalVariation(), higher_is_better=True)
    torch.testing.assert_close(rougher.score(images, PROMPTS), total_variation(images, reduction="none"))


def test_a_reward_is_a_metric_too() -> None:
    images = smooth(24, 20)
    nested = MetricReward(Colorfulness(), with_prompts=True)
    torch.testing.assert_close(nested.score(images, PROMPTS), Colorfulness().score(images, PROMPTS))


def test_gradients_by_autograd_through_the_function(reference: Tensor) -> None:
    images = smooth(24, 20).requires_grad_()
    judge = MetricReward(StructuralSimilarityIndexMeasure(data_range=1.0), reference=reference)
    (gradient,) = torch.autograd.grad(judge.score(images, PROMPTS).sum(), images)
    value = structural_similarity_index_measure(images, reference.expand_as(images), data_range=1.0, reduction="sum")
    (expected,) = torch.autograd.grad(value, images)
    torch.testing.assert_close(gradient, expected)
    assert judge.is_differentiable


def test_no_gradients_where_the_metric_promises_none() -> None:
    class Undifferentiable(TotalVariation):
        is_differentiable = False

    judge = MetricReward(Undifferentiable())
    assert not judge.is_differentiable
    assert not judge.score(smooth(24, 20).requires_grad_(), PROMPTS).requires_grad


def test_nothing_is_left_in_the_metric_and_nobody_else_is_waited_for() -> None:
    def exchange(*_: object) -> None:
        raise AssertionError("a score must not wait for other processes")

    metric = TotalVariation(dist_sync_fn=exchange, distributed_available_fn=lambda: True)
    judge = MetricReward(metric)
    first = judge.score(smooth(24, 20), PROMPTS)
    assert metric.update_count == 0
    assert not metric.score
    torch.testing.assert_close(judge.score(smooth(24, 20), PROMPTS), first, rtol=0, atol=0)


def test_the_metric_belongs_to_nobody_else() -> None:
    judge = MetricReward(Length(), with_prompts=True, higher_is_better=True)
    parent = nn.ModuleDict({"judge": judge}).to("meta")
    assert not list(parent.parameters())
    assert not parent.state_dict()
    assert not any(weight.requires_grad for weight in judge.metric.parameters())
    assert judge.metric.network.weight.device.type == "meta"


def test_what_is_no_single_number_is_named(reference: Tensor) -> None:
    with pytest.raises(ValueError, match=r"TotalVariation returned Tensor of shape \(\) for 4 images"):
        MetricReward(TotalVariation(), each=False).score(smooth(24, 20), PROMPTS)


def test_bad_arguments_get_one_line(tmp_path: Path, reference: Tensor) -> None:
    (tmp_path / "text.png").write_text("no picture")
    cases = [
        ({}, ValueError, "Length doesn't say whether higher is better: pass higher_is_better"),
        ({"higher_is_better": True, "with_prompts": True, "reference": reference}, ValueError, "leave one out"),
        ({"higher_is_better": True, "reference": "nowhere.png"}, FileNotFoundError, "no reference 'nowhere.png'"),
        ({"higher_is_better": True, "reference": tmp_path / "text.png"}, ValueError, "text.png' is no image"),
        ({"higher_is_better": True, "reference": 255 * reference}, ValueError, r"want \[0, 1\]"),
        ({"higher_is_better": True, "reference": reference[None]}, ValueError, "want"),
    ]
    for options, error, message in cases:
        with pytest.raises(error, match=message) as caught:
            MetricReward(Length(), **options)
        assert "\n" not in str(caught.value)


def test_another_size_than_the_reference_s_is_named(reference: Tensor) -> None:
    judge = MetricReward(PeakSignalNoiseRatio(data_range=1.0), reference=reference)
    with pytest.raises(ValueError, match=r"images are 12x20 pixels, the reference 24x20: resize"):
        judge.score(smooth(12, 20), PROMPTS)
