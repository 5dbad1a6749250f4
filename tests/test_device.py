"""Nothing is left on the CPU: soups of every sampler, gradients of rewards, and fits run on a device that checks it."""

from __future__ import annotations

import inspect
import traceback
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy

import rewards
from rewards import CLIPScore, Colorfulness, Reward
from srsoup_lightning import Loading, Preferences, PromptDataModule, SRSoupModule, finetune, samplers
from srsoup_lightning.callbacks import SampleWriter
from srsoup_lightning.finetune.base import Objective
from srsoup_lightning.finetune.training import Training
from srsoup_lightning.samplers import BaseModel, FixedSoup, Sampler, SRSoup
from tests.device import use_device
from tests.diffusion.conftest import tiny_pipeline
from tests.processes import start
from tests.rewards.conftest import save_tiny_clip

FEW = {
    **{"num_inference_steps": 3, "candidates": 2, "pool": 2, "groups": 1, "group_size": 2},
    **{"warm_up": 2, "batch": 2, "iterations": 2, "popsize": 2, "elites": 2, "generations": 2, "level": 1},
    **{"children": 2, "leaves": 4, "rounds": 2, "initial": 2, "budget": 8},
    "max_batch": 8,  # the batch that is found by timing is that of check_loading
    "checkpointing": False,  # its hooks take tensors whose memory PyTorch can see
}


class Accelerator(CPUAccelerator):
    """Lets Lightning run on any device."""

    def setup_device(self, device: torch.device) -> None:
        pass


def concrete(package: object, base: type) -> list[type]:
    kinds = [getattr(package, name) for name in package.__all__]
    return [
        kind for kind in kinds if isinstance(kind, type) and issubclass(kind, base) and not inspect.isabstract(kind)
    ]


def small(kind: type, **options: object) -> object:
    names = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in FEW.items() if name in names}, **options)


def trainer(root: Path, **options: object) -> L.Trainer:
    shown = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    strategy = SingleDeviceStrategy(torch.device("pydev", 0), Accelerator())
    # A tensor that wraps another one has no version in inference mode.
    options = {**options, "inference_mode": False, "default_root_dir": root}
    return L.Trainer(strategy=strategy, **dict.fromkeys(shown, False), **options)


def module(root: Path, sampler: Sampler, training: Training | None = None, **loading: object) -> SRSoupModule:
    judges = {"clip": CLIPScore(str(root / "clip")), "colour": Colorfulness()}
    options = Loading(**{"dtype": "float32", **loading})
    both = Preferences(list(judges), [[0.5, 0.5], [1.0, 0.0]][: 1 if training else 2])
    return SRSoupModule(str(root / "pipeline"), judges, sampler, both, loading=options, training=training)


def predict(root: Path, sampler: Sampler, **loading: object) -> None:
    callbacks = [SampleWriter(str(root / "run"), overwrite=True)]
    made, devices = module(root, sampler, **loading), set[str]()
    made.step_callbacks.append(lambda _: devices.add(next(made.backbone.network.parameters()).device.type))
    (soup,) = trainer(root, callbacks=callbacks).predict(made, PromptDataModule(["a cat"]))
    assert soup.images.isfinite().all()
    assert devices == {"pydev"}


def check_samplers(root: Path) -> None:
    for kind in concrete(samplers, Sampler):
        predict(root, small(kind))


def sample_without_a_trainer(root: Path) -> None:
    pipeline, device = tiny_pipeline().to("pydev"), torch.device("pydev", 0)
    moved = module(root, small(SRSoup, sharing=FixedSoup(0, 2))).to(device)
    given = SRSoupModule(pipeline, moved.rewards, moved.sampler, moved.preferences)
    with pytest.MonkeyPatch.context() as patch:  # a tensor that wraps another one has no version in inference mode
        patch.setattr(torch, "inference_mode", lambda mode=True: torch.no_grad() if mode else nullcontext())
        for made in (moved, given):
            assert made.sample("a cat").ledger.device.startswith("pydev")
    trainer(root).predict(given, PromptDataModule(["a cat"]))
    assert pipeline.device == device


def check_loading(root: Path) -> None:
    sampler = SRSoup(num_inference_steps=3, candidates=2, sharing=FixedSoup(0, 2))
    for options in ({"dtype": "bfloat16"}, {"dtype": "float16"}, {"offload": "text_encoders"}, {"vae_tiling": True}):
        predict(root, sampler, **options)
    sample_without_a_trainer(root)


def check_fits(root: Path) -> None:
    predict(root, BaseModel(num_inference_steps=3))  # scored pictures, for those that train on them
    for kind in concrete(finetune, Objective):
        given = {"runs": (str(root / "run"),)} if kind.needs_conditioning else {}
        conditioning = finetune.Conditioning() if kind.needs_conditioning else None
        training = Training(objective=small(kind, **given), conditioning=conditioning)
        tuned = module(root, BaseModel(num_inference_steps=3), training)
        trainer(root, max_epochs=1).fit(tuned, datamodule=PromptDataModule(["a cat"]))
        assert tuned.finetuning.rounds == 1


def without_files(kind: type[Reward]) -> bool:
    """Whether a reward needs no network and no other argument."""
    options = inspect.signature(kind).parameters
    needed = [option for option in options.values() if option.default is option.empty]
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return not {"model", "tokenizer"} & set(options) and all(option.kind in variable for option in needed)


def check_rewards(root: Path) -> None:
    device, plain = torch.device("pydev", 0), [kind() for kind in concrete(rewards, Reward) if without_files(kind)]
    assert len(plain) > 5
    for reward in [*plain, CLIPScore(str(root / "clip"))]:
        images = torch.rand(2, 3, 16, 16).to(device).requires_grad_(bool(reward.is_differentiable))
        scores = reward.to(device).score(images, ["a cat", "a dog"])
        if reward.is_differentiable:
            scores.sum().backward()
            assert images.grad.device.type == "pydev"
            assert images.grad.isfinite().all()


class Forgetful(BaseModel):
    """Leaves a tensor on the CPU."""

    def sample(self, problem: object, *arguments: object) -> torch.Tensor:
        return super().sample(problem, *arguments) + torch.zeros(1, 4, 8, 8)


def check_a_tensor_on_the_cpu_is_found(root: Path) -> None:
    with pytest.raises(RuntimeError, match="lies on the cpu, and others on pydev"):
        predict(root, Forgetful(num_inference_steps=3))


CHECKS = {name: check for name, check in globals().items() if name.startswith("check_")}


def run_check(command: list[str]) -> None:
    """Run a check in this process, whose PyTorch has the device from now on."""
    name, root = command
    use_device()
    tiny_pipeline().save_pretrained(Path(root) / "pipeline")
    save_tiny_clip(Path(root) / "clip")
    try:
        CHECKS[name](Path(root))
    except BaseException:
        (Path(root) / "failed").write_text(traceback.format_exc())
        raise


@pytest.mark.long
@pytest.mark.parametrize("name", CHECKS)
def test_on_a_device(tmp_path: Path, name: str) -> None:
    process = start([name, str(tmp_path)], run_check)
    process.join(300)
    failed = tmp_path / "failed"
    assert process.exitcode == 0, failed.read_text() if failed.exists() else process.exitcode
