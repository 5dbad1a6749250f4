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
from tests.rewards.conftest import one_line, pictures, smooth

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


def test_total_variation_is_negated_and_comparisons_are_not(reference: Tensor) -> None:
    images = smooth(24, 20)
    expected = -total_variation(images, reduction="none")
    torch.testing.assert_close(MetricReward(TotalVariation()).score(images, PROMPTS), expected)
    at_once = MetricReward(TotalVariation(reduction="none"), each=False)
    torch.testing.assert_close(at_once.score(images, PROMPTS), expected)
    torch.testing.assert_close(at_once.score(images[:1], PROMPTS[:1]), expected[:1])
    rougher = MetricReward(TotalVariation(), higher_is_better=True)
    torch.testing.assert_close(rougher.score(images, PROMPTS), -expected)
    noise_ratio = MetricReward(PeakSignalNoiseRatio(data_range=1.0), reference=reference)
    expected = [peak_signal_noise_ratio(image, reference, data_range=1.0) for image in images]
    torch.testing.assert_close(noise_ratio.score(images, PROMPTS), torch.stack(expected))
    repeated = reference.expand_as(images)
    expected = structural_similarity_index_measure(images, repeated, data_range=1.0, reduction="none")
    for each, reduction in ((True, "elementwise_mean"), (False, "none")):
        metric = StructuralSimilarityIndexMeasure(data_range=1.0, reduction=reduction)
        scores = MetricReward(metric, reference=reference, each=each).score(images, PROMPTS)
        torch.testing.assert_close(scores, expected)


def test_the_closed_form_of_a_shift() -> None:
    grey = torch.full((3, 8, 8), 0.5)
    reward = MetricReward(PeakSignalNoiseRatio(data_range=1.0), reference=grey)
    shifts = torch.tensor([0.5, 0.1, 0.01])
    torch.testing.assert_close(reward.score(grey - shifts.view(3, 1, 1, 1), PROMPTS[:3]), -20 * shifts.log10())


def test_a_reference_from_a_file(tmp_path: Path) -> None:
    images = smooth(24, 20)
    pictures(images[:1])[0].save(tmp_path / "reference.png")
    reward = MetricReward(SpectralAngleMapper(), reference=tmp_path / "reference.png")
    by_tensor = MetricReward(SpectralAngleMapper(), reference=images[0])
    torch.testing.assert_close(reward.score(images, PROMPTS), by_tensor.score(images, PROMPTS))
    assert reward.score(images, PROMPTS)[0].item() == pytest.approx(0, abs=2e-3)
    assert (reward.score(images, PROMPTS)[1:] < -0.01).all()


def test_prompts_and_the_sign_by_argument_and_a_reward_as_the_metric() -> None:
    images = smooth(24, 20)
    for better, sign in {True: 1, False: -1}.items():
        reward = MetricReward(Length(), with_prompts=True, higher_is_better=better)
        assert reward.score(images, PROMPTS).tolist() == [sign * length for length in (1, 2, 3, 4)]
    nested = MetricReward(Colorfulness(), with_prompts=True)
    torch.testing.assert_close(nested.score(images, PROMPTS), Colorfulness().score(images, PROMPTS))


def test_gradients_by_autograd_through_the_function(reference: Tensor) -> None:
    images = smooth(24, 20).requires_grad_()
    reward = MetricReward(StructuralSimilarityIndexMeasure(data_range=1.0), reference=reference)
    (gradient,) = torch.autograd.grad(reward.score(images, PROMPTS).sum(), images)
    value = structural_similarity_index_measure(images, reference.expand_as(images), data_range=1.0, reduction="sum")
    (expected,) = torch.autograd.grad(value, images)
    torch.testing.assert_close(gradient, expected)
    assert reward.is_differentiable


def test_no_gradients_where_the_metric_promises_none() -> None:
    reward = MetricReward(type("Undifferentiable", (TotalVariation,), {"is_differentiable": False})())
    assert not reward.is_differentiable
    assert not reward.score(smooth(24, 20).requires_grad_(), PROMPTS).requires_grad


def test_nothing_is_left_in_the_metric_and_nobody_else_is_waited_for() -> None:
    def exchange(*_: object) -> None:
        raise AssertionError("a score must not wait for other processes")

    metric = TotalVariation(dist_sync_fn=exchange, distributed_available_fn=lambda: True)
    reward = MetricReward(metric)
    first = reward.score(smooth(24, 20), PROMPTS)
    assert metric.update_count == 0
    assert not metric.score
    torch.testing.assert_close(reward.score(smooth(24, 20), PROMPTS), first, rtol=0, atol=0)


def test_the_metric_belongs_to_nobody_else() -> None:
    reward = MetricReward(Length(), with_prompts=True, higher_is_better=True)
    parent = nn.ModuleDict({"reward": reward}).to("meta")
    assert not list(parent.parameters())
    assert not parent.state_dict()
    assert not any(weight.requires_grad for weight in reward.metric.parameters())
    assert reward.metric.network.weight.device.type == "meta"


def test_arguments_and_images_that_are_refused(tmp_path: Path, reference: Tensor) -> None:
    (tmp_path / "text.png").write_text("no picture")
    cases = [
        ({}, ValueError, "Length doesn't say whether higher is better: pass higher_is_better"),
        ({"higher_is_better": True, "with_prompts": True, "reference": reference}, ValueError, "leave one out"),
        ({"higher_is_better": True, "reference": "nowhere.png"}, FileNotFoundError, "no reference 'nowhere.png'"),
        ({"higher_is_better": True, "reference": tmp_path / "text.png"}, ValueError, "text.png is torn or no picture"),
        ({"higher_is_better": True, "reference": 255 * reference}, ValueError, r"want \[0, 1\]"),
        ({"higher_is_better": True, "reference": reference[None]}, ValueError, "want"),
    ]
    for options, error, message in cases:
        with one_line(error, message):
            MetricReward(Length(), **options)
    with pytest.raises(ValueError, match=r"TotalVariation returned Tensor of shape \(\) for 4 images"):
        MetricReward(TotalVariation(), each=False).score(smooth(24, 20), PROMPTS)
    reward = MetricReward(PeakSignalNoiseRatio(data_range=1.0), reference=reference)
    with pytest.raises(ValueError, match=r"images are 12x20 pixels, the reference 24x20: resize"):
        reward.score(smooth(12, 20), PROMPTS)
