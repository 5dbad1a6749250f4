"""tiny-clip: the tokenizer and the two towers, trained contrastively on the scenes and their captions."""

from __future__ import annotations

import json
from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from torch.utils.data import TensorDataset
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from checkpoints.recipe.scenes import ANIMALS, CAPTIONS_PER_SCENE, COUNTS, SIZE, Scene
from checkpoints.recipe.training import bfloat16, cosine_adamw, fit

MAX_TOKENS = 24
MERGES = 400


def train_tokenizer(captions: list[str]) -> CLIPTokenizer:
    """A byte-level BPE in CLIP's vocabulary layout. It contains every byte, so any text has tokens."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + MERGES, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(captions, trainer)
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    tokens = [*alphabet, *(byte + "</w>" for byte in alphabet), *("".join(pair) for pair in merges)]
    tokens = list(dict.fromkeys([*tokens, "<|startoftext|>", "<|endoftext|>"]))
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids (len(captions), MAX_TOKENS)."""
    return tokenizer(
        captions, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
    ).input_ids


def scene_tokens(tokenizer: CLIPTokenizer, scenes: list[Scene]) -> Tensor:
    """The token ids of every scene's captions, (len(scenes), CAPTIONS_PER_SCENE, MAX_TOKENS)."""
    flat = [caption for scene in scenes for caption in scene.captions()]
    return tokenize(tokenizer, flat).reshape(len(scenes), CAPTIONS_PER_SCENE, MAX_TOKENS)


def build_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """An untrained CLIPModel for 64-pixel pictures, 2 million parameters."""
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": 160,
        "intermediate_size": 640,
        "num_hidden_layers": 5,
        "num_attention_heads": 5,
        "image_size": SIZE,
        "patch_size": 8,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=128))


def build_processor(tokenizer: CLIPTokenizer) -> CLIPProcessor:
    """The preprocessing of 64-pixel pictures in CLIP's own format."""
    size = {"shortest_edge": SIZE}
    return CLIPProcessor(CLIPImageProcessorPil(size=size, crop_size={"height": SIZE, "width": SIZE}), tokenizer)


def normalise(images: Tensor, processor: CLIPProcessor) -> Tensor:
    """Images (B, 3, SIZE, SIZE) in [0, 1], normalised for the vision tower."""
    mean, std = (
        torch.tensor(values, device=images.device).view(3, 1, 1)
        for values in (processor.image_processor.image_mean, processor.image_processor.image_std)
    )
    return (images - mean) / std


class ContrastiveTraining(L.LightningModule):
    """Contrastive training as in Radford et al. 2021, arXiv:2103.00020, with one change.

    Equal captions in a batch count as positives of each other. Pictures get random blur, noise and brightness, because
    the tower scores generated pictures later.
    """

    def __init__(self, clip: CLIPModel, processor: CLIPProcessor, learning_rate: float, steps: int) -> None:
        super().__init__()
        self.clip, self.processor = clip, processor
        self.learning_rate, self.steps = learning_rate, steps

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        pictures, tokens = batch
        choice = torch.randint(CAPTIONS_PER_SCENE, (len(tokens),), device=tokens.device)
        tokens = tokens[torch.arange(len(tokens)), choice]
        pixels = normalise(_disturb(pictures.float() / 255), self.processor)
        with bfloat16(self):
            out = self.clip(pixel_values=pixels, input_ids=tokens)
        same = (tokens[:, None] == tokens[None]).all(-1).float()
        target = same / same.sum(1, keepdim=True)
        loss = F.cross_entropy(out.logits_per_image.float(), target) + F.cross_entropy(
            out.logits_per_text.float(), target
        )
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> dict:
        return cosine_adamw(self.clip, self.learning_rate, self.steps, weight_decay=0.05)


def _disturb(images: Tensor) -> Tensor:
    """Images in [0, 1] with random blur, brightness and noise, drawn for each picture."""
    shape = (len(images), 1, 1, 1)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    images = torch.lerp(images, blurred, torch.rand(shape, device=images.device))
    images = images * (0.85 + 0.3 * torch.rand(shape, device=images.device))
    return (images + 0.06 * torch.rand(shape, device=images.device) * torch.randn_like(images)).clamp(0, 1)


def train_clip(
    pictures: Tensor, scenes: list[Scene], folder: Path, *, steps: int, batch_size: int, learning_rate: float, seed: int
) -> None:
    """Train tiny-clip on pictures (B, 3, SIZE, SIZE) uint8 and save it with its processor as ``folder/model``."""
    tokenizer = train_tokenizer(sorted({caption for scene in scenes for caption in scene.captions()}))
    L.seed_everything(seed)
    clip, processor = build_clip(tokenizer), build_processor(tokenizer)
    module = ContrastiveTraining(clip, processor, learning_rate, steps)
    data = TensorDataset(pictures, scene_tokens(tokenizer, scenes))
    fit(module, data, folder, steps=steps, batch_size=batch_size, seed=seed)
    clip.eval().save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")


@torch.no_grad()
def zero_shot(clip: CLIPModel, processor: CLIPProcessor, images: Tensor) -> Tensor:
    """Index of the nearest animal of ANIMALS, (B,), for images (B, 3, SIZE, SIZE) in [0, 1].

    The embedding of an animal is the mean over its captions with one, two and three of a kind. This is the prompt
    ensemble of Radford et al. 2021, section 3.1.4.
    """
    animals = 0
    for count in COUNTS:
        captions = [Scene(animal, count, "white", "plain").captions()[0] for animal in ANIMALS]
        tokens = tokenize(processor.tokenizer, captions)
        animals = animals + clip(pixel_values=normalise(images[:1], processor), input_ids=tokens).text_embeds
    chunks = [
        clip(pixel_values=normalise(chunk, processor), input_ids=tokens[:1]).image_embeds for chunk in images.split(256)
    ]
    return (torch.cat(chunks) @ animals.T).argmax(1)
