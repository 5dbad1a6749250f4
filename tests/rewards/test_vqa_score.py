"""VQAScore of three families against their own forward pass, image by image and without padding."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from benchmarks.reward_networks import CHAT, speaker
from rewards import VQAScore
from tests.rewards.conftest import (
    EYE,
    PROMPTS,
    SIZE,
    SPEAKER,
    Files,
    built,
    copied,
    one_line,
    outspoken,
    pictures,
    save_tiny_llava,
    smooth,
)

QUESTION = 'Does this figure show "{prompt}"? Please answer yes or no.'


def save_tiny_idefics3(folder: Path) -> str:
    places = [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]
    tokenizer = speaker("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *places)
    config = Idefics3Config(
        vision_config=EYE,
        text_config=LlamaConfig(vocab_size=len(tokenizer), **SPEAKER),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    outspoken(Idefics3ForConditionalGeneration(config), tokenizer).save_pretrained(folder)
    pixels = Idefics3ImageProcessorPil(size={"longest_edge": 2 * SIZE}, max_image_size={"longest_edge": SIZE})
    Idefics3Processor(pixels, tokenizer, image_seq_len=4, chat_template=CHAT).save_pretrained(folder)
    return str(folder)


def save_tiny_paligemma(folder: Path) -> str:
    tokenizer = speaker()
    pixels = SiglipImageProcessorPil(size={"height": SIZE, "width": SIZE})
    pixels.image_seq_length = 16
    processor = PaliGemmaProcessor(pixels, tokenizer)
    heads = {"head_dim": 8, "num_key_value_heads": 2}
    config = PaliGemmaConfig(
        vision_config=EYE | {"model_type": "siglip_vision_model", "vision_use_head": False},
        text_config=SPEAKER | {"model_type": "gemma", "vocab_size": len(tokenizer)} | heads,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=16,
    )
    torch.manual_seed(0)
    outspoken(PaliGemmaForConditionalGeneration(config), tokenizer).save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def chat(question: str) -> str:
    return f"<s>user <image> {question} assistant"


# The function that saves the family's tiny model, the text's template, and whether that begins the sequence by itself.
FAMILIES = {
    "llava": (save_tiny_llava, QUESTION, chat, {"add_special_tokens": False}),
    "idefics3": (save_tiny_idefics3, QUESTION, chat, {"add_special_tokens": False}),
    "paligemma": (save_tiny_paligemma, f"<image>{QUESTION}", str, {}),
}
Family = tuple[VQAScore, Callable[[Tensor, list[str]], Tensor]]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    """A reward, and its paper's formula: the last position's softmax, summed over the spellings of the answer."""
    save, template, dress, options = FAMILIES[request.param]
    folder = save(tmp_path_factory.mktemp(request.param))
    network, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    spelt = processor.tokenizer.convert_tokens_to_ids(["Yes", "\u0120Yes"])

    def one_by_one(images: Tensor, prompts: list[str]) -> Tensor:
        scores = []
        for picture, prompt in zip(pictures(images), prompts, strict=True):
            text = dress(template.replace("{prompt}", prompt))
            inputs = processor(images=picture, text=text, return_tensors="pt", **options)
            with torch.no_grad():
                out = network(**{name: inputs[name] for name in inputs if name not in ("labels", "attention_mask")})
            scores.append(out.logits[0, -1].softmax(-1)[spelt].sum())
        return torch.stack(scores)

    return VQAScore(folder, template=template), one_by_one


@pytest.mark.parametrize("shape", [(SIZE, SIZE), (50, 75)])
def test_the_papers_formula(family: Family, shape: tuple[int, int]) -> None:
    (reward, one_by_one), images = family, smooth(*shape)
    expected = one_by_one(images, PROMPTS)
    assert expected.std() > 0.1 * expected.mean()
    torch.testing.assert_close(reward.score(images, PROMPTS), expected, rtol=1e-4, atol=1e-7)


def test_padding_is_on_the_left_whatever_the_tokenizer_says(files: Files, tmp_path: Path) -> None:
    right = {"padding_side": "right", "pad_token": None}
    folder, images = copied(files.llava, tmp_path / "right", tokenizer_config=right), smooth(SIZE, SIZE)
    expected = built("vqa", files).score(images, PROMPTS)
    torch.testing.assert_close(VQAScore(folder).score(images, PROMPTS), expected, rtol=1e-4, atol=1e-5)


def test_text_that_the_network_reads(files: Files) -> None:
    reward = built("vqa", files)
    (ids,) = reward._encode(pictures(smooth(SIZE, SIZE, 1)), ["a {cat}"])["input_ids"]
    text = reward._processor.tokenizer.decode(ids).replace("<image>" * 16, "<image>")
    assert text.startswith("<s>user <image> <unk>oes this figure show ")
    assert "cat" in text
    assert text.endswith("lease answer yes or no<unk> assistant")
    assert text.count("<s>") == 1


def test_yes_and_no_share_the_probability(files: Files) -> None:
    images = smooth(SIZE, SIZE)
    scores = [VQAScore(files.llava, answer=answer).score(images, PROMPTS) for answer in ("Yes", "a", "z")]
    assert all(((score > 0) & (score < 1)).all() for score in scores)
    assert (sum(scores) < 1).all()


def test_pixels_are_rounded_to_8_bits(files: Files) -> None:
    reward, images = built("vqa", files), smooth(SIZE, SIZE)
    shifted = (images + 0.4 / 255).clamp(0, 1)
    torch.testing.assert_close(reward.score(shifted, PROMPTS), reward.score(images, PROMPTS), rtol=0, atol=0)


def test_sampling_settings_of_the_model_are_ignored(files: Files, tmp_path: Path) -> None:
    hot = {"do_sample": True, "temperature": 9.0, "top_k": 1, "suppress_tokens": [33, 34]}
    folder, images = (
        copied(files.llava, tmp_path / "hot", "generation_config.json", generation_config=hot),
        smooth(SIZE, SIZE),
    )
    expected = built("vqa", files).score(images, PROMPTS)
    torch.testing.assert_close(VQAScore(folder).score(images, PROMPTS), expected, rtol=0, atol=0)


def test_a_model_without_its_tokenizer(files: Files, tmp_path: Path) -> None:
    with one_line(FileNotFoundError, "bare lacks its tokenizer"):
        VQAScore(copied(files.llava, tmp_path / "bare", "*processor*", "*token*"))


def test_unknown_code_is_not_run(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copied(files.llava, tmp_path / "foreign", "config.json")
    monkeypatch.chdir(tmp_path)
    (folder / "code.py").write_text("import pathlib; pathlib.Path('ran').touch()\nclass Config: pass\n")
    config = {"model_type": "foreign", "auto_map": {"AutoConfig": "code.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    with one_line(ValueError, "foreign is no model that this transformers knows"):
        VQAScore(folder)
    assert not Path("ran").exists()


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_a_processor_that_needs_torchvision(files: Files, tmp_path: Path) -> None:
    video = {
        "video_processor": {"video_processor_type": "Qwen2VLVideoProcessor"},
        "processor_class": "Qwen2VLProcessor",
    }
    folder = copied(files.llava, tmp_path / "qwen", processor_config=video)
    with one_line(ModuleNotFoundError, r"qwen can't be read yet, .*[Tt]orchvision.*pip"):
        VQAScore(folder)
