"""Training of a pipeline's denoising network on cached latents and captions: the parts that all pipelines share."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import ClassVar

import lightning as L
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, ModelMixin
from torch import Tensor
from torch.utils.data import TensorDataset
from transformers import CLIPModel, CLIPProcessor

from checkpoints.recipe.autoencoder import encode
from checkpoints.recipe.clip import scene_tokens, tokenize
from checkpoints.recipe.scenes import ANIMALS, Scene, with_article
from checkpoints.recipe.training import cosine_adamw, fit, save_grid

CAPTION_ODDS = torch.tensor([0.4, 0.2, 0.2, 0.2])  # bare, colour, pattern, both
EMPTY_ODDS = 0.1
PREVIEW_EPOCHS = 4


class PipelineTraining(L.LightningModule, abc.ABC):
    """Training of a denoising network. One caption in ten is empty, for classifier-free guidance.

    Args:
        pipeline: A pipeline of diffusers.
        network: Its denoising network.
        learning_rate: Highest learning rate.
        steps: Number of steps.
        folder: Folder of the previews.
    """

    preview_options: ClassVar[dict[str, object]]
    """Options of :func:`sample` for the previews."""

    def __init__(
        self, pipeline: DiffusionPipeline, network: ModelMixin, learning_rate: float, steps: int, folder: Path
    ) -> None:
        super().__init__()
        self.denoiser = network
        self.frozen = (pipeline,)  # a tuple, so that frozen components stay out of the checkpoint and the average
        self.learning_rate, self.steps, self.folder = learning_rate, steps, folder
        self.register_buffer("empty", tokenize(pipeline.tokenizer, [""]), persistent=False)

    @classmethod
    @abc.abstractmethod
    def begin(
        cls,
        autoencoder: AutoencoderKL,
        clip: CLIPModel,
        processor: CLIPProcessor,
        learning_rate: float,
        steps: int,
        folder: Path,
    ) -> PipelineTraining:
        """Training of an untrained network, in a pipeline of these components."""

    def latents_and_tokens(self, batch: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Latents (B, 4, 16, 16) drawn from the autoencoder's posterior, and token ids (B, tokens) of their captions.

        Args:
            batch: Moments of the posterior (B, 8, 16, 16), and token ids (B, captions, tokens).
        """
        moments, tokens = batch
        (pipeline,) = self.frozen
        mean, std = moments.float().chunk(2, dim=1)
        latents = (mean + std * torch.randn_like(std)) * pipeline.vae.config.scaling_factor
        choice = torch.multinomial(CAPTION_ODDS.to(self.device), len(tokens), replacement=True)
        tokens = tokens[torch.arange(len(tokens)), choice]
        dropped = torch.rand(len(tokens), 1, device=self.device) < EMPTY_ODDS
        return latents, torch.where(dropped, self.empty, tokens)

    def on_train_epoch_end(self) -> None:
        if self.current_epoch % PREVIEW_EPOCHS:
            return
        (pipeline,) = self.frozen
        images = sample(pipeline, [with_article(animal) for animal in ANIMALS], seed=0, **self.preview_options)
        save_grid(images, self.folder / f"epoch_{self.current_epoch:03d}.png")

    def configure_optimizers(self) -> dict:
        return cosine_adamw(self.denoiser, self.learning_rate, self.steps)


@torch.no_grad()
def sample(
    pipeline: DiffusionPipeline, prompts: list[str], *, seed: int, num_inference_steps: int, **options: object
) -> Tensor:
    """One picture (3, H, W) in [0, 1] for each prompt, with guidance 5 and further options of the pipeline."""
    return pipeline(
        prompts,
        num_inference_steps=num_inference_steps,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(seed),
        output_type="pt",
        **options,
    ).images


def train_pipeline(
    kind: type[PipelineTraining],
    pictures: Tensor,
    scenes: list[Scene],
    clip_folder: Path,
    autoencoder_folder: Path,
    folder: Path,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    start: Path | None = None,
) -> None:
    """Train on the latents of pictures (B, 3, SIZE, SIZE) uint8 and save the complete pipeline as ``folder/model``.

    `start` is the folder of a network, whose weights the training begins with.
    """
    L.seed_everything(seed)
    autoencoder = AutoencoderKL.from_pretrained(autoencoder_folder, torch_dtype=torch.float32).eval()
    clip = CLIPModel.from_pretrained(clip_folder, dtype=torch.float32)
    processor = CLIPProcessor.from_pretrained(clip_folder)
    autoencoder.requires_grad_(False)
    module = kind.begin(autoencoder, clip, processor, learning_rate, steps, folder)
    if start is not None:
        weights = type(module.denoiser).from_pretrained(start, torch_dtype=torch.float32).state_dict()
        module.denoiser.load_state_dict(weights)
    data = TensorDataset(encode(autoencoder, pictures), scene_tokens(processor.tokenizer, scenes))
    fit(module, data, folder, steps=steps, batch_size=batch_size, seed=seed, ema_decay=0.995)
    (pipeline,) = module.frozen
    module.denoiser.eval()
    pipeline.save_pretrained(folder / "model")
