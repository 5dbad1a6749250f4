"""The parts of the checkpoints' recipe that can be judged without training for an hour."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset
from transformers import CLIPModel, CLIPProcessor

from checkpoints.recipe.__main__ import STAGES, Recipe, main
from checkpoints.recipe.autoencoder import AutoencoderTraining, DecoderTraining, build_autoencoder, reconstruction_error
from checkpoints.recipe.clip import tokenize
from checkpoints.recipe.flow import FlowTraining, WeightedPadding, assemble, build_transformer
from checkpoints.recipe.preview import PreviewTraining, build_preview_decoder, decoded_latents
from checkpoints.recipe.training import fit

ROOT = Path(__file__).resolve().parent.parent
PICTURES = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_reconstruction_error_counts_pixels_and_edges() -> None:
    flat = torch.zeros(2, 3, 4, 4)
    edge = flat.clone()
    edge[..., 2:] = 0.5  # one step to the right in each row: half the pixels are off, one in three differences
    assert reconstruction_error(flat, flat) == 0
    assert reconstruction_error(flat + 0.5, flat) == pytest.approx(0.5)
    assert reconstruction_error(edge, flat) == pytest.approx(0.25 + 0.5 / 3)


def test_refining_the_decoder_leaves_the_encoder_as_it_is(tmp_path: Path) -> None:
    autoencoder = build_autoencoder()
    before = {name: weight.clone() for name, weight in autoencoder.state_dict().items()}
    module = DecoderTraining(autoencoder, learning_rate=1e-3, steps=3, folder=tmp_path)
    fit(module, TensorDataset(PICTURES), tmp_path, steps=3, batch_size=4, seed=0)
    moved = {name for name, weight in autoencoder.state_dict().items() if not torch.equal(weight, before[name])}
    assert moved
    assert all(name.startswith(("decoder.", "post_quant_conv.")) for name in moved)


@pytest.mark.slow
def test_a_training_that_was_stopped_goes_on_from_its_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("checkpoints.recipe.training.EPOCH_STEPS", 2)
    batches = []
    step = AutoencoderTraining.training_step
    monkeypatch.setattr(AutoencoderTraining, "training_step", lambda *given: batches.append(0) or step(*given))

    def train(folder: Path, *ends: int) -> dict[str, torch.Tensor]:
        for steps in ends:
            torch.manual_seed(0)
            autoencoder = build_autoencoder()
            module = AutoencoderTraining(autoencoder, learning_rate=0.0, steps=4, folder=folder)
            fit(module, TensorDataset(PICTURES), folder, steps=steps, batch_size=4, seed=0)
        return torch.load(folder / "last.ckpt", weights_only=False)

    once, twice = train(tmp_path / "once", 4), train(tmp_path / "twice", 2, 4)
    assert once["global_step"] == twice["global_step"] == 4
    assert once["epoch"] == twice["epoch"]
    assert len(batches) == 4 + 4  # from the beginning, the second training would have taken four


def test_each_stage_has_a_method_and_a_folder_and_unknown_ones_are_named() -> None:
    recipe = Recipe(Path("work"), Path("font"), 0, {})
    assert all(callable(getattr(recipe, stage)) for stage in STAGES)
    assert recipe.model("clip") == Path("work/clip/model")
    with pytest.raises(ValueError, match=r"unknown stages \['vae'\]: choose from clip, autoencoder, decoder"):
        main(stages=["vae"])


def test_a_preview_decoder_learns_what_the_autoencoder_makes_of_latents_and_their_mixtures(tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = build_autoencoder().eval()
    teacher.register_to_config(scaling_factor=0.5)
    data = decoded_latents(teacher, PICTURES, seed=0)
    latents, images = (each.float() for each in data.tensors)
    scaled = (PICTURES.float() / 127.5 - 1).split(1)
    means = torch.cat([teacher.encode(each).latent_dist.mean for each in scaled]).detach()
    torch.testing.assert_close(latents[::2] / 0.5, means[::2], rtol=1e-2, atol=1e-2)
    between = (latents[1::2] / 0.5 - means[1::2]) / (means[::2] - means[1::2])  # the share of the neighbour
    assert all(0 <= each.median() <= 1 and (each - each.median()).abs().median() < 0.05 for each in between)
    decoded = teacher.decode(latents / 0.5).sample.detach()
    torch.testing.assert_close(images / 127.5 - 1, decoded.clamp(-1, 1), rtol=0, atol=0.02)

    student = build_preview_decoder()
    before = reconstruction_error(student.decode(latents).sample, decoded).item()
    module = PreviewTraining(student, learning_rate=5e-3, steps=12, folder=tmp_path)
    fit(module, data, tmp_path, steps=12, batch_size=4, seed=0)
    assert reconstruction_error(student.decode(latents).sample, decoded).item() < 0.8 * before


def test_one_weighted_state_stands_for_all_the_zeros_after_a_text() -> None:
    torch.manual_seed(0)
    transformer = build_transformer(text_width=8)
    for weight in transformer.parameters():
        nn.init.normal_(weight, std=0.1)
    x, text, pooled = torch.randn(2, 4, 16, 16), torch.randn(2, 3, 16), torch.randn(2, 16)
    time, padding = torch.tensor([300.0, 700.0]), WeightedPadding()
    with torch.no_grad():
        expected = transformer(x, F.pad(text, (0, 0, 0, 40)), pooled, time).sample
        transformer.set_attn_processor(padding)
        padding.logarithm.fill_(math.log(40))
        torch.testing.assert_close(transformer(x, F.pad(text, (0, 0, 0, 1)), pooled, time).sample, expected)
        padding.logarithm.zero_()
        assert not torch.allclose(transformer(x, F.pad(text, (0, 0, 0, 1)), pooled, time).sample, expected)


def test_the_flow_s_pipeline_encodes_a_text_as_its_training_does(tmp_path: Path) -> None:
    folder = ROOT / "checkpoints" / "tiny-clip"
    clip, processor = CLIPModel.from_pretrained(folder, dtype=torch.float32), CLIPProcessor.from_pretrained(folder)
    pipeline = assemble(build_transformer(), build_autoencoder(), clip, processor)
    states, _, pooled, _ = pipeline.encode_prompt("a cat", None, None, do_classifier_free_guidance=False, device="cpu")
    module = FlowTraining(pipeline, 1e-3, 1, tmp_path)
    trained, trained_pooled = module.condition(tokenize(pipeline.tokenizer, ["a cat"]))
    torch.testing.assert_close(trained, states[:, : trained.shape[1]])
    torch.testing.assert_close(trained_pooled, pooled)
    assert states[:, trained.shape[1] :].count_nonzero() == 0


def test_a_training_of_the_flow_leaves_a_pipeline_with_the_processors_of_diffusers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FlowTraining, "preview_options", {"num_inference_steps": 1, "max_sequence_length": 1})
    folder = ROOT / "checkpoints" / "tiny-clip"
    clip, processor = CLIPModel.from_pretrained(folder, dtype=torch.float32), CLIPProcessor.from_pretrained(folder)
    module = FlowTraining.begin(build_autoencoder().eval(), clip, processor, 1e-3, 1, tmp_path)
    before = {name: type(each) for name, each in module.denoiser.attn_processors.items()}
    weights = {name: weight.clone() for name, weight in module.denoiser.state_dict().items()}
    tokens = tokenize(processor.tokenizer, ["a cat"] * 4).expand(4, 4, -1)
    fit(module, TensorDataset(torch.rand(4, 8, 16, 16).half(), tokens), tmp_path, steps=1, batch_size=4, seed=0)
    assert {name: type(each) for name, each in module.denoiser.attn_processors.items()} == before
    assert any(not torch.equal(weight, weights[name]) for name, weight in module.denoiser.state_dict().items())
    assert (tmp_path / "epoch_000.png").is_file()
