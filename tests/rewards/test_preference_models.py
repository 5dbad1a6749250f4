"""PickScore, HPSv2 and AestheticScore against the published formulas on raw transformers modules."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPModel

from rewards import AestheticScore, HPSv2, PickScore, Reward
from tests.rewards.conftest import (
    PROMPTS,
    SIZE,
    WIDTH,
    check_gradient,
    make_legacy,
    official_pixels,
    pictures,
    raw_embeddings,
    save_tiny_clip,
    smooth,
    tiny_head,
)

SIZES = [(SIZE, SIZE), (24, 20), (13, 30)]


@pytest.mark.parametrize("size", SIZES)
def test_pick_score_is_the_logit(clip_folder: str, size: tuple[int, int]) -> None:
    images = smooth(*size)
    seen, read = raw_embeddings(clip_folder, official_pixels(clip_folder, images), PROMPTS)
    expected = CLIPModel.from_pretrained(clip_folder).logit_scale.exp().detach() * (seen * read).sum(-1)
    found = PickScore(clip_folder).score(images, PROMPTS)
    # The official processor rounds resized pixels to 8 bits.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 if size == (SIZE, SIZE) else 0.6)
    assert expected.std() > 1


def test_a_square_picture_s_hps_is_100_cosines(clip_folder: str) -> None:
    images = smooth(SIZE, SIZE)
    seen, read = raw_embeddings(clip_folder, official_pixels(clip_folder, images), PROMPTS)
    torch.testing.assert_close(
        HPSv2(clip_folder).score(images, PROMPTS), 100 * (seen * read).sum(-1), rtol=0, atol=1e-4
    )


def framed(image: Image.Image) -> Image.Image:
    """The longest side to the network's, bicubic, on black."""
    scale = SIZE / max(image.size)
    small = image.resize([max(1, round(scale * side)) for side in image.size], Image.Resampling.BICUBIC)
    square = Image.new("RGB", (SIZE, SIZE))
    square.paste(small, ((SIZE - small.width) // 2, (SIZE - small.height) // 2))
    return square


@pytest.mark.parametrize("size", [(24, 16), (16, 32), (48, 24)])
def test_hps_fits_the_whole_picture_on_black(clip_folder: str, size: tuple[int, int]) -> None:
    images = smooth(*size)
    squares = torch.stack(
        [
            torch.tensor(list(framed(each).tobytes())).view(SIZE, SIZE, 3).permute(2, 0, 1) / 255
            for each in pictures(images)
        ]
    )
    seen, read = raw_embeddings(clip_folder, official_pixels(clip_folder, squares), PROMPTS)
    found = HPSv2(clip_folder).score(images, PROMPTS)
    torch.testing.assert_close(found, 100 * (seen * read).sum(-1), rtol=0, atol=1.0)
    cropped = HPSv2(clip_folder, fit="crop").score(images, PROMPTS)
    assert (cropped - found).abs().max() > 2


def predicted(head: dict[str, Tensor], embeddings: Tensor) -> Tensor:
    """The MLP as plain matrix products: it has no activations."""
    for index in (0, 2, 4, 6, 7):
        embeddings = embeddings @ head[f"layers.{index}.weight"].T + head[f"layers.{index}.bias"]
    return embeddings.squeeze(-1)


def test_aesthetic_score_is_the_mlp_of_the_unit_embedding(clip_folder: str, head_file: str) -> None:
    images = smooth(SIZE, SIZE)
    seen, _ = raw_embeddings(clip_folder, official_pixels(clip_folder, images), PROMPTS)
    found = AestheticScore(clip_folder, head=head_file).score(images, PROMPTS)
    torch.testing.assert_close(found, predicted(tiny_head(), seen), rtol=1e-4, atol=1e-4)
    assert found.std() > 0.1
    torch.testing.assert_close(AestheticScore(clip_folder, head=head_file).score(images, [""] * 4), found)


def save_pth(folder: Path) -> tuple[str, str]:
    """The head as LAION published it, a pickled state dict, and its checksum."""
    file = folder / "sac+logos+ava1-l14-linearMSE.pth"
    torch.save(tiny_head(), file)
    return str(file), hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_official_file_is_opened_with_its_checksum_alone(clip_folder: str, head_file: str, tmp_path: Path) -> None:
    file, checksum = save_pth(tmp_path)
    images = smooth(SIZE, SIZE)
    found = AestheticScore(clip_folder, head=file, sha256=checksum).score(images, PROMPTS)
    torch.testing.assert_close(found, AestheticScore(clip_folder, head=head_file).score(images, PROMPTS))
    for wrong in ("0" * 64, None):
        with pytest.raises(ValueError, match=r"sha256|SHA-256") as caught:
            AestheticScore(clip_folder, head=file, sha256=wrong)
        assert "\n" not in str(caught.value)


class Evil:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return exec, ("raise SystemExit('opened')",)


def test_a_pickle_with_code_in_it_is_not_run(clip_folder: str, tmp_path: Path) -> None:
    file = tmp_path / "head.pth"
    torch.save({"layers.0.weight": Evil()}, file)
    with pytest.raises(ValueError, match=r"head\.pth") as caught:
        AestheticScore(clip_folder, head=str(file), sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    assert "\n" not in str(caught.value)


HEADS = {
    "missing key": (lambda head: {key: head[key] for key in head if key != "layers.6.bias"}, r"lacks layers\.6\.bias"),
    "unknown key": (lambda head: head | {"logits": torch.zeros(1)}, "unknown key logits"),
    "another width": (lambda _: tiny_head(WIDTH + 1), r"layers\.0\.weight of shape \(1024, 9\), want \(1024, 8\)"),
    "NaN": (lambda head: head | {"layers.7.bias": torch.tensor([torch.nan])}, "NaN or infinite"),
}


@pytest.mark.parametrize(("spoil", "message"), HEADS.values(), ids=HEADS)
def test_a_head_that_does_not_fit_is_refused(
    spoil: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str, clip_folder: str, tmp_path: Path
) -> None:
    save_file(spoil(tiny_head()), tmp_path / "head.safetensors")
    with pytest.raises(ValueError, match=message) as caught:
        AestheticScore(clip_folder, head=tmp_path / "head.safetensors")
    assert "\n" not in str(caught.value)


def test_a_head_that_is_not_there_is_named(clip_folder: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"/no/such/head\.safetensors"):
        AestheticScore(clip_folder, head="/no/such/head.safetensors")


def test_gradients_reach_the_pixels(make_network_reward: Callable[..., Reward], clip_folder: str) -> None:
    check_gradient(make_network_reward(clip_folder, dtype="float64"))


def test_preprocessing_of_2022_is_read(
    make_network_reward: Callable[..., Reward], clip_folder: str, tmp_path: Path
) -> None:
    folder = save_tiny_clip(tmp_path)
    make_legacy(folder)
    assert make_network_reward(folder).score(smooth(24, 20), PROMPTS).isfinite().all()


def test_a_processor_from_elsewhere_is_used(clip_folder: str, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    CLIPModel.from_pretrained(clip_folder).save_pretrained(bare)
    images = smooth(24, 20)
    for kind in (PickScore, HPSv2):
        with pytest.raises(FileNotFoundError, match="lacks its tokenizer or its image preprocessing") as caught:
            kind(str(bare))
        assert "\n" not in str(caught.value)
        found = kind(str(bare), processor=clip_folder).score(images, PROMPTS)
        torch.testing.assert_close(found, kind(clip_folder).score(images, PROMPTS))


def test_a_missing_model_is_named(make_network_reward: Callable[..., Reward]) -> None:
    with pytest.raises(FileNotFoundError, match="no CLIP model '/no/such/model'"):
        make_network_reward("/no/such/model")


def test_a_revision_of_a_folder_is_refused(make_network_reward: Callable[..., Reward], clip_folder: str) -> None:
    with pytest.raises(ValueError, match=r"revision is 'v1', but .* is a folder"):
        make_network_reward(clip_folder, revision="v1")


def test_weights_that_are_not_finite_are_refused(
    make_network_reward: Callable[..., Reward], clip_folder: str, tmp_path: Path
) -> None:
    folder = save_tiny_clip(tmp_path)
    network = CLIPModel.from_pretrained(folder)
    nn.init.constant_(network.visual_projection.weight, torch.nan)
    network.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"NaN or infinite in float32, visual_projection\.weight"):
        make_network_reward(folder)


def test_an_unknown_fit_is_named(clip_folder: str) -> None:
    with pytest.raises(ValueError, match="fit is 'stretch': choose one of pad, crop"):
        HPSv2(clip_folder, fit="stretch")
