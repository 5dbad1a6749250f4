"""Fits through Lightning: what is written, what goes on after a stop, what several processes do, what is refused."""

from __future__ import annotations

import json
import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from safetensors.torch import load_file
from torch.optim.lr_scheduler import StepLR

from srsoup_lightning import Limits, OraclePolicy, Preferences, PromptDataModule
from srsoup_lightning.callbacks import AdapterWriter
from srsoup_lightning.costs.limits import LimitError
from srsoup_lightning.finetune import DiffusionDPO, DRaFT, LoRA, Matching, Objective, PairTable
from srsoup_lightning.finetune.logs import RoundLogs, merged
from srsoup_lightning.finetune.rehearsal import rehearse_round
from srsoup_lightning.runs.adapter import WEIGHTS, read_facts
from tests.diffusion.drawing import sized
from tests.finetune.fits import PROMPTS, SMALL, adapter_bytes, fit, make_fit, tracked, trainer_of
from tests.processes import start

OBJECTIVES = {
    "PolicyGradient": tracked(kl=0.1),
    "NFT": Matching(**SMALL),
    "DRaFT": DRaFT(**SMALL),
}


def ema() -> EMAWeightAveraging:
    return EMAWeightAveraging(decay=0.5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of three rounds without a stop."""
    root = tmp_path_factory.mktemp("whole")
    fit(root)
    return root


def test_a_run_directory_has_the_adapter_its_facts_and_a_checkpoint_without_the_base_model(whole: Path) -> None:
    weights = load_file(whole / "adapter" / WEIGHTS)
    backbone = sized("SD")
    backbone.add_adapter(LoRA(rank=2, alpha=6, targets=("to_q", "to_v")).config(), seed=0)
    assert weights.keys() == backbone.adapter_state().keys()
    assert all(not torch.equal(weights[key], value) for key, value in backbone.adapter_state().items())
    facts = read_facts(whole / "adapter")
    assert (facts.objective, facts.preference, facts.rounds) == ("PolicyGradient", {"red": 1.0, "blue": 0.0}, 3)
    expected, _ = rehearse_round(make_fit().tuning, Preferences(["red", "blue"], [[1.0, 0.0]]))
    for name in ("queries", "nfe", "gradients", "decodes"):
        one, three = getattr(expected, name), getattr(facts.costs, name)
        assert three == ({key: 3 * count for key, count in one.items()} if isinstance(one, dict) else 3 * one)
    checkpoint = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)
    assert {name.rpartition(".lora_")[1] for name in checkpoint["state_dict"]} == {".lora_"}
    assert checkpoint["finetuning"]["memory"]["tracker"].keys() <= set(PROMPTS)
    sizes = sum(value.numel() for value in weights.values()) * 4
    assert (whole / "checkpoints" / "last.ckpt").stat().st_size < 2.5 * sizes + 40_000  # and the optimizer's momentum


def test_plain_diffusers_draws_with_the_adapter_and_its_alpha(whole: Path) -> None:
    from tests.diffusion.conftest import prediction
    from tests.diffusion.pipelines import make

    pipeline = make("SD")
    pipeline.load_lora_weights(str(whole / "adapter"))
    module = fit(whole)  # all rounds are done, so this only loads them
    assert pipeline.unet.peft_config["default_0"].lora_alpha == 6
    x, states = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 32)
    with torch.no_grad():
        found, ours = (unet(x, 500, states).sample for unet in (pipeline.unet, module.backbone.network))
    torch.testing.assert_close(found, ours)
    assert not torch.equal(prediction(module.backbone), prediction(sized("SD")))


@pytest.mark.parametrize(
    "name", ["PolicyGradient", *(pytest.param(name, marks=pytest.mark.slow) for name in ("NFT", "DRaFT"))]
)
def test_a_fit_that_goes_on_ends_with_the_bytes_of_one_without_a_stop(tmp_path: Path, name: str) -> None:
    options = {"updates": 2, "scheduler": partial(StepLR, step_size=3)}
    ends = {"once": [3], "stopped": [1, 3]}
    for folder, rounds in ends.items():
        for end in rounds:
            module = make_fit(OBJECTIVES[name], **options)
            fit(tmp_path / folder, module, end, callbacks=[AdapterWriter(), ema()], gradient_clip_val=0.5)
    assert adapter_bytes(tmp_path / "once") == adapter_bytes(tmp_path / "stopped")
    costs = [read_facts(tmp_path / folder / "adapter").costs for folder in ends]
    assert costs[0].nfe == costs[1].nfe > 0
    last = torch.load(tmp_path / "once" / "checkpoints" / "last.ckpt", weights_only=True)
    averaged, current = last["state_dict"], last["current_model_state"]
    assert averaged.keys() == current.keys()
    assert any(not torch.equal(averaged[key], current[key]) for key in averaged)
    written = load_file(tmp_path / "once" / "adapter" / WEIGHTS)
    assert {tuple(each.flatten().tolist()) for each in written.values()} == {
        tuple(each.flatten().tolist()) for each in averaged.values()
    }


def kill_and_go_on(root: Path, whole: Path, kills: int, chance: random.Random) -> None:
    """Kill a fit after random times, start it again each time, and require the bytes of the one without a stop."""
    for _ in range(kills):
        run = start([str(root), "1", "auto", "3"], run=_fit)
        time.sleep(chance.uniform(0.1, 1.5))
        run.kill()
        run.join()
    fit(root)
    assert adapter_bytes(root) == adapter_bytes(whole)
    assert read_facts(root / "adapter").costs.nfe == read_facts(whole / "adapter").costs.nfe


def _fit(command: list[str]) -> None:
    root, devices, strategy, rounds = command
    fit(Path(root), rounds=int(rounds), devices=int(devices), strategy=strategy)


def test_a_killed_fit_goes_on_to_the_same_bytes(tmp_path: Path, whole: Path) -> None:
    kill_and_go_on(tmp_path, whole, 2, random.Random(0))


@pytest.mark.slow
def test_a_fit_killed_at_twenty_moments_goes_on_to_the_same_bytes(tmp_path: Path, whole: Path) -> None:
    kill_and_go_on(tmp_path, whole, 20, random.Random(1))


def test_sigterm_ends_a_fit_within_a_batch_and_it_goes_on(tmp_path: Path, whole: Path) -> None:
    run = start([str(tmp_path), "1", "auto", "3"], run=_fit)
    deadline = time.monotonic() + 60
    while not (tmp_path / "checkpoints" / "last.ckpt").is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    run.terminate()
    run.join(30)
    assert run.exitcode in (0, 128 + signal.SIGTERM)  # 0 if it was done before
    fit(tmp_path)
    assert adapter_bytes(tmp_path) == adapter_bytes(whole)


@pytest.mark.slow
def test_two_processes_give_the_gradients_of_one(tmp_path: Path) -> None:
    run = start([str(tmp_path / "two"), "2", "ddp_fork", "1"], run=_fit)
    fit(tmp_path / "one", rounds=1)
    run.join(120)
    assert run.exitcode == 0
    one, two = (load_file(tmp_path / name / "adapter" / WEIGHTS) for name in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=0, atol=1e-6)  # after a step of 2 gradients
    assert all(not torch.equal(each, torch.zeros_like(each)) for each in one.values())  # B was 0 before
    first, second = (json.loads((tmp_path / name / "adapter" / "adapter.json").read_text()) for name in ("one", "two"))
    assert {**first["costs"], "seconds": 0} == {**second["costs"], "seconds": 0}


def test_limits_and_budgets_hold_over_rounds_and_resumes(tmp_path: Path) -> None:
    one_round, _ = rehearse_round(make_fit().tuning, Preferences(["red", "blue"], [[1.0, 0.0]]))
    limited = {"run_limits": Limits(max_nfe=2 * one_round.nfe + 5), "oracle": OraclePolicy(budgets={"red": 1000})}
    with pytest.raises(LimitError, match=r"run_limits.max_nfe is .* are taken, and .* more were needed"):
        fit(tmp_path / "nfe", make_fit(**limited), 5)
    assert read_facts(tmp_path / "nfe" / "adapter").rounds == 2
    module = make_fit(oracle=OraclePolicy(budgets={"red": 13}))  # six a round
    for _ in range(2):
        with pytest.raises(LimitError, match=r"oracle.budgets.red is 13: 12(.0)? are taken"):
            fit(tmp_path / "budget", module, 5)
        module = make_fit(oracle=OraclePolicy(budgets={"red": 13}))
    assert json.loads((tmp_path / "budget" / "spending.json").read_text())["spent"] == {"oracle.budgets.red": 12}


def test_a_held_out_reward_stops_a_fit_early_and_a_precision_is_that_of_sampling_and_training(tmp_path: Path) -> None:
    stop = EarlyStopping("validation/blue", mode="max", patience=1, min_delta=1.0)  # nothing rises by that much
    module = make_fit(lora=LoRA(rank=2), updates=None)
    precision = {"precision": "bf16-mixed", "accumulate_grad_batches": 100}  # so that a round has one optimizer step
    fit(tmp_path, module, 9, callbacks=[AdapterWriter(), stop], validation_prompts=["photo"], **precision)
    assert read_facts(tmp_path / "adapter").rounds == 2
    logged = module.trainer.callback_metrics
    ratios = [value for name, value in logged.items() if name.startswith("train/ratio/step_")]
    assert ratios
    assert all(float(value) == pytest.approx(1, abs=1e-6) for value in ratios)
    assert module.trainer.global_step == 2
    assert {weight.dtype for weight in module.parameters() if weight.requires_grad} == {torch.float32}


def test_a_second_fit_of_a_module_goes_on_with_its_adapter_rounds_costs_and_updates(tmp_path: Path) -> None:
    module = make_fit(updates=2)
    fit(tmp_path / "first", module, 1)
    before, costs = module.backbone.adapter_state(), module.finetuning.costs
    fit(tmp_path / "second", module, 1)
    assert module.trainer.global_step == 2
    assert any(not torch.equal(before[key], weight) for key, weight in module.backbone.adapter_state().items())
    facts = read_facts(tmp_path / "second" / "adapter")
    assert (facts.rounds, facts.costs.nfe) == (2, 2 * costs.nfe)


def test_means_of_a_round_are_over_the_processes_that_log_a_quantity() -> None:
    logs = [RoundLogs({}), RoundLogs({})]
    for values in ({"loss": 1.0, "step_1": 5.0}, {"loss": 2.0}):
        logs[0].add({name: torch.tensor(value) for name, value in values.items()})
    logs[1].add({"loss": torch.tensor(6.0), "step_2": torch.tensor(7.0)})
    assert merged([each.totals() for each in logs]) == {"loss": 3.0, "step_1": 5.0, "step_2": 7.0}


def test_weights_that_are_not_finite_end_a_fit_and_the_last_good_adapter_stays(tmp_path: Path) -> None:
    module = make_fit()
    module.on_before_optimizer_step = lambda optimizer: (
        None
        if module.finetuning.rounds < 1
        else [each.grad.fill_(torch.nan) for each in module.parameters() if each.requires_grad]
    )
    with pytest.raises(ValueError, match="trained weights are not finite after round 2: lower the learning rate"):
        fit(tmp_path, module)
    assert read_facts(tmp_path / "adapter").rounds == 1
    assert all(each.isfinite().all() for each in load_file(tmp_path / "adapter" / WEIGHTS).values())


def test_networks_stay_in_eval_mode_and_there_is_one_copy_of_them(tmp_path: Path) -> None:
    module = make_fit()
    before = sum(weight.numel() for weight in module.parameters())
    seen = []
    step = module.training_step
    module.training_step = lambda *given: seen.append(module.backbone.network.training) or step(*given)
    averaging = ema()
    fit(tmp_path, module, 1, callbacks=[AdapterWriter(), averaging])
    assert set(seen) == {False}
    added = sum(weight.numel() for weight in module.parameters()) - before
    assert added == sum(weight.numel() for weight in module.parameters() if weight.requires_grad)
    frozen = {id(weight) for weight in module.parameters() if not weight.requires_grad}
    copies = [weight for weight in averaging._average_model.parameters() if not weight.requires_grad]
    assert {id(weight) for weight in copies} == frozen


def test_a_lora_of_others_is_the_start_of_a_fit(tmp_path: Path, whole: Path) -> None:
    module = make_fit(lora=LoRA(start=str(whole / "adapter")), updates=1)
    module._trainer = trainer_of(tmp_path, 1)
    module._trainer.state.fn = "fit"
    module.configure_model()
    found = load_file(whole / "adapter" / WEIGHTS)
    torch.testing.assert_close(module.backbone.adapter_state(), found, rtol=0, atol=0)
    assert {weight.dtype for weight in module.parameters() if weight.requires_grad} == {torch.float32}


def test_a_kohya_file_is_the_start_of_a_fit_with_its_alpha(tmp_path: Path, whole: Path) -> None:
    """Its names have underscores for dots, down and up for A and B, and an alpha for each layer."""
    from safetensors.torch import save_file

    weights, alpha = load_file(whole / "adapter" / WEIGHTS), 3.0
    kohya, products = {}, {}
    for key in [key for key in weights if key.endswith("lora_A.weight")]:
        layer, down, up = key.removesuffix(".lora_A.weight"), weights[key], weights[key.replace("lora_A", "lora_B")]
        name = f"lora_{layer.replace('.', '_')}"
        parts = {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(alpha)}
        kohya |= {f"{name}.{part}": weight.contiguous() for part, weight in parts.items()}
        products[layer.removeprefix("unet.")] = alpha / len(down) * up @ down
    save_file(kohya, tmp_path / "kohya.safetensors")
    module = make_fit(lora=LoRA(start=str(tmp_path / "kohya.safetensors")), updates=1)
    module._trainer = trainer_of(tmp_path, 1)
    module._trainer.state.fn = "fit"
    module.configure_model()
    layers = dict(module.backbone.network.named_modules())
    for layer, product in products.items():
        (change,) = (layers[layer].get_delta_weight(name) for name in layers[layer].active_adapters)
        torch.testing.assert_close(change, product)


def damaged(whole: Path, folder: Path, value: float) -> str:
    from safetensors.torch import save_file

    weights = load_file(whole / "adapter" / WEIGHTS)
    folder.mkdir()
    save_file(
        {key: torch.full_like(each, value) for key, each in weights.items()},
        folder / WEIGHTS,
    )
    return str(folder)


REFUSED = [
    (lambda **_: make_fit(tracked(eta=0.0)), "sigma is 0 at each trained step"),
    (lambda **_: make_fit(lora=LoRA(targets=("none",))), "none"),
    (lambda **_: make_fit(lora=LoRA(start="nowhere")), "no LoRA 'nowhere'"),
    (lambda whole, root: make_fit(lora=LoRA(start=damaged(whole, root / "nan", torch.nan))), "are not finite"),
    (lambda **_: _with_preferences([[1.0, 0.0], [0.5, 0.5]]), "2 preferences are given, and a fit tunes one adapter"),
    (lambda **_: _without_objective(), "a fit needs an objective: give model.training"),
    (lambda **_: _before_loading(DiffusionDPO(**SMALL, pairs=PairTable("nowhere"))), "no table of pairs 'nowhere'"),
    (lambda **_: make_fit(lora=LoRA(rank=2), updates=1), "accumulate_grad_batches is 2 and training.updates is 1"),
]


def _with_preferences(points: list[list[float]]) -> object:
    module = make_fit()
    module.preferences = Preferences(["red", "blue"], points)
    return module


def _before_loading(objective: Objective) -> object:
    module = make_fit(objective)
    module.backbone, module._load = None, lambda: pytest.fail("the model was loaded first")
    return module


def _without_objective() -> object:
    module = make_fit()
    module.tuning = None
    return module


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_can_t_be_tuned_is_refused_before_anything_is_sampled(
    make: object, message: str, tmp_path: Path, whole: Path
) -> None:
    accumulate = 2 if "accumulate" in message else 1
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        fit(tmp_path / "run", make(whole=whole, root=tmp_path), accumulate_grad_batches=accumulate)
    assert not (tmp_path / "run" / "adapter").exists()


def test_run_directories_and_callbacks_that_do_not_fit_are_refused(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(FileExistsError, match="holds a training: go on with it by"):
        fit(whole, resume=False)
    within = ModelCheckpoint(tmp_path, every_n_train_steps=1)
    with pytest.raises(ValueError, match="a ModelCheckpoint saves within a round"):
        fit(tmp_path, callbacks=[AdapterWriter(), within])
    with pytest.raises(ValueError, match="training has the objective PolicyGradient, and predict trains nothing"):
        trainer_of(tmp_path, 1).predict(make_fit(), datamodule=PromptDataModule(PROMPTS))
    fit(whole, callbacks=[AdapterWriter(overwrite=True)], resume=False)
    assert read_facts(whole / "adapter").rounds == 3
