"""VQAScore: the probability, by a model that answers questions, that an image shows its prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from rewards.base import Reward, require_batch
from rewards.eight_bit import to_eight_bit
from rewards.networks.loading import Dtype, load_config, load_network, load_preprocessing
from rewards.networks.source import Source

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BLANK = "{prompt}"


class VQAScore(Reward):
    """Probability that a model answers "Yes" first when asked whether the image shows the prompt.

    Lin et al. 2024, "Evaluating text-to-visual generation with image-to-text generation", ECCV 2024, arXiv:2404.01291:
    ``P("Yes" | image, question)`` with the question 'Does this figure show "{prompt}"? Please answer yes or no.' Values
    lie in ``[0, 1]``. For composed prompts, such as "the red cup left of the dog", the authors find it closer to
    people's ratings than CLIP's scores.

    The score is a softmax over the complete vocabulary, in float32, of the logits of the first token after the
    question. The probabilities of the tokens that spell the answer are summed, with and without a space before it,
    each where it is a single token. The question goes through the processor's chat template, as a user's message with
    the image first. If there is no chat template, the text is the filled template alone: write into it what the model
    needs, such as "<image>". The authors' own network, CLIP-FlanT5, is not in transformers. Of those that are, they
    report LLaVA-1.5. Its chat template may differ from their prompt in a system message. None of this was compared
    with their numbers, only with the same formula image by image on random weights, for LLaVA, Idefics3 and PaliGemma.

    Images go through Pillow at 8 bits a channel, so no gradient reaches the pixels. A processor that takes videos too,
    such as that of Qwen2-VL, Qwen2.5-VL or SmolVLM, needs torchvision. Memory grows with the images of a call.
    LLaVA-1.5's weights are under the Llama 2 licence, so far as known. Other models have their own licences.

    Args:
        model: Hub id or local folder of a model that ``AutoModelForImageTextToText`` loads, with safetensors weights
            and its processor. No code from it is run.
        dtype: Precision of the network; autocast around a call does not change it.
        revision: Commit, tag or branch of the model on the hub; by default its main branch as of today.
        template: The question, with "{prompt}" in it.
        answer: The answer whose probability is the score, a single token of the model; some models say "yes".

    Raises:
        FileNotFoundError: If there is no such model, or no processor.
        ValueError: If it is no such model with complete, finite safetensors weights, or the dtype is none of those, or
            a revision is given for a folder; if the template lacks "{prompt}" or the answer is no single token.
        ModuleNotFoundError: If transformers, or a package that the processor needs, is not installed.

    Example:
        >>> vqa = VQAScore(dtype="bfloat16")  # doctest: +SKIP
        >>> vqa.score(torch.rand(1, 3, 512, 512), ["coloured noise"]).shape  # doctest: +SKIP
        torch.Size([1])
    """

    def __init__(
        self,
        model: str | Path = "llava-hf/llava-1.5-7b-hf",
        dtype: Dtype = "float32",
        revision: str | None = None,
        template: str = f'Does this figure show "{_BLANK}"? Please answer yes or no.',
        answer: str = "Yes",
    ) -> None:
        if _BLANK not in template:
            raise ValueError(f"template is {template!r}: write {_BLANK} where the prompt belongs.")
        source = Source(str(model), revision)
        config = load_config(source)
        from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

        if config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
            raise ValueError(f"{model} is a {config.model_type} model: give one that answers questions, such as llava.")
        processor = load_preprocessing(AutoProcessor, source)
        tokenizer = processor.tokenizer
        answers = _spellings(tokenizer, answer, source.name)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        if not config.is_encoder_decoder:
            tokenizer.padding_side = "left"  # the answer continues the question, not its padding
        network = load_network(AutoModelForImageTextToText, source, dtype, config)
        # One forward pass for the logits of the last token; nothing is sampled.
        network.generation_config = GenerationConfig(
            max_new_tokens=1,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            pad_token_id=tokenizer.pad_token_id,
            decoder_start_token_id=network.generation_config.decoder_start_token_id,
        )
        super().__init__(network)
        self._processor, self._template, self._answers = processor, template, answers

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Score ``(B, 3, H, W)`` images in ``[0, 1]`` of any size as ``(B,)`` float32 probabilities.

        Raises:
            TypeError, ValueError: See :func:`rewards.base.require_batch`.
        """
        require_batch(images, prompts)
        network: Any = self.networks[0]
        inputs = self._encode([Image.fromarray(pixels) for pixels in to_eight_bit(images)], prompts)
        with torch.autocast(self.device.type, enabled=False):
            logits: Tensor = network.generate(**inputs).logits[0]
        return logits.float().softmax(-1)[:, self._answers].sum(-1).to(images.device)

    def __getstate__(self) -> dict[str, Any]:
        # Hooks that transformers adds to some networks in their first run can't be pickled. The next run adds new ones.
        for module in self.networks[0].modules():
            module._forward_hooks.clear()
            module.__dict__.pop("_output_capturing_hooks_installed", None)
        return super().__getstate__()

    def _encode(self, pictures: list[Image.Image], prompts: list[str]) -> dict[str, Tensor]:
        """The network's inputs, on its device and in its dtype."""
        texts = [self._template.replace(_BLANK, prompt) for prompt in prompts]
        if self._processor.chat_template is not None:
            contents = [[{"type": "image"}, {"type": "text", "text": text}] for text in texts]
            chats = [[{"role": "user", "content": content}] for content in contents]
            texts = self._processor.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
        options: dict[str, object] = {"padding": True, "return_tensors": "pt"}
        start = self._processor.tokenizer.bos_token
        if start is not None and texts[0].startswith(start):
            options["add_special_tokens"] = False  # the template has added it already
        tensors = self._processor(images=[[picture] for picture in pictures], text=texts, **options)
        precision = self.networks[0].dtype
        return {
            name: tensor.to(self.device, precision if tensor.is_floating_point() else tensor.dtype)
            for name, tensor in tensors.items()
        }


def _spellings(tokenizer: PreTrainedTokenizerBase, answer: str, name: str) -> list[int]:
    """Tokens that spell the answer, at the start of a line or after a space."""
    spelt = [tokenizer.encode(text, add_special_tokens=False) for text in (answer, f" {answer}")]
    tokens = sorted({ids[0] for ids in spelt if len(ids) == 1 and ids[0] != tokenizer.unk_token_id})
    if not tokens:
        raise ValueError(f"answer is {answer!r}, no single token of {name}: give one that is, such as 'yes'.")
    return tokens
