"""Every config of a search runs: those of tiny-animals as they are, the published ones with tiny models in place."""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import MISSING, fields
from functools import partial
from itertools import permutations
from pathlib import Path
from pydoc import locate

import pytest
import torch
import yaml

from srsoup_lightning import samplers
from srsoup_lightning.builtin import CONFIGS
from srsoup_lightning.cli.commands import COMMANDS
from srsoup_lightning.cli.main import main
from srsoup_lightning.runs.adapter import read_used_adapters
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.samplers import Particles, SRSoup
from srsoup_lightning.samplers.scalarised import Scalarised
from srsoup_lightning.search.shaping import Shaping
from tests.config_twins import FITS, save, settings_of, twin_of

SMALL = {
    **{"num_inference_steps": 4, "candidates": 2, "pool": 4, "particles": 2, "children": 2, "leaves": 4, "rounds": 2},
    **{"initial": 2, "budget": 8, "noises": 2, "warm_up": 2, "batch": 2, "iterations": 2, "popsize": 2, "elites": 2},
    **{"level": 1, "completion": 2},
}
FEW = {"selection": {"pool": 4}, "surrogate": {"previews": 4}}


def quick(name: str) -> list[str]:
    """Options that make one soup of a config in a few seconds, with every part that it has."""
    sampler = settings_of(name)["model"]["sampler"]
    given, kind = sampler["init_args"], locate(sampler["class_path"])
    small = {field.name: SMALL[field.name] for field in fields(kind) if field.name in SMALL}
    preset = {field.name for field in fields(kind) if field.default_factory is not MISSING}
    few = small | {part: (given.get(part) or {}) | FEW[part] for part in FEW if part in preset | set(given)}
    options = (word for part in few for word in (f"--model.sampler.{part}", yaml.safe_dump(few[part])))
    return ["--data.prompts", "[a lobster]", *options]


ADAPTED = [name for name in CONFIGS.names() if "adapters" in settings_of(name)["model"]]
SEARCHES = [name for name in CONFIGS.names() if name not in {*FITS, *ADAPTED}]
BUILTIN = [name for name in SEARCHES if settings_of(name)["model"]["pipeline"] == "tiny-animals"]
KINDS = {name: locate(settings_of(name)["model"]["sampler"]["class_path"]) for name in SEARCHES}
REAL = [name for name in SEARCHES if name not in BUILTIN]
FAST = [name for name in REAL if "loras" in settings_of(name)["model"]["loading"]]
PUBLISHED = [name for name in REAL if name not in FAST and issubclass(KINDS[name], SRSoup)]
RIVALS = [name for name in REAL if name not in FAST + PUBLISHED]


@pytest.mark.long
@pytest.mark.parametrize("name", [*BUILTIN[:1], *(pytest.param(name, marks=pytest.mark.slow) for name in BUILTIN[1:])])
def test_every_config_of_the_builtin_model_runs_on_fewer_steps(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "--config", name, *quick(name), "--trainer.default_root_dir", str(tmp_path / "run")]) == 0
    run = RunDirectory(tmp_path / "run")
    saved = yaml.safe_load(run.config.read_text())
    points = saved["model"]["preferences"]["init_args"]
    rows = list(run.image_rows())
    others = len(points["rewards"]) - 1
    assert len(rows) == math.comb(points["divisions"] + others, others)
    assert set(rows[0].rewards) == set(points["rewards"])
    assert all((run.root / row.image).is_file() for row in rows)
    assert len(list(run.sheets.iterdir())) == 1
    assert "hypervolume" in capsys.readouterr().out


def test_the_demo_is_that_of_the_readme_and_a_config_has_its_commands() -> None:
    settings = settings_of("animals")
    assert len(settings["data"]["prompts"]) == 6
    assert set(settings["model"]["rewards"]) == {"jpeg", "clip"}
    assert settings["model"]["preferences"]["init_args"]["divisions"] == 5
    assert {name for name, command in COMMANDS.items() if command.trainer} == {"fit", "predict", "plan"}


# Of each model: eta, transition of a rectified flow, and the end of the soup phase.
MODELS = {"sd15": (1.0, None, 20), "sdxl": (1.0, None, 20), "sd35": (0.8, "sde", 10)}


def test_every_file_is_a_config_of_a_known_model() -> None:
    files = {path.stem for path in (Path(__file__).parents[1] / "configs").rglob("*.yaml")}
    assert files == {*SEARCHES, *FITS, *ADAPTED}
    assert {name.split("_")[0] for name in PUBLISHED} == set(MODELS)


ANIMALS = ["a hippopotamus", "a snail", "a cheetah", "a crocodile", "a lobster", "an octopus"]
MIXTURES = [(0.8, 0.1, 0.1), (0.6, 0.2, 0.2), (0.2, 0.4, 0.4)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_has_the_paper_s_settings(name: str) -> None:
    settings = settings_of(name)
    loading, sampler = settings["model"]["loading"], settings["model"]["sampler"]["init_args"]
    eta, transition, end = MODELS[name.split("_")[0]]
    assert (loading["height"], loading["width"], loading.get("transition")) == (512, 512, transition)
    asked = {"num_inference_steps": 50, "guidance_scale": 5.0, "eta": eta, "candidates": 30}
    assert {key: sampler[key] for key in asked} == asked
    assert sampler["sharing"]["init_args"] == {"start": 0, "end": end}
    assert settings["data"]["prompts"] == ANIMALS
    points = settings["model"]["preferences"]["init_args"]
    assert points["rewards"] == list(settings["model"]["rewards"])
    if "three" not in name:
        assert points["divisions"] == 5  # weights 0, 0.2 ... 1
        return
    expected = {turned for mixture in [(1, 0, 0), *MIXTURES] for turned in permutations(mixture)}
    centre, others = points["weights"][-1], points["weights"][:-1]
    assert centre == pytest.approx([1 / 3] * 3, abs=1e-6)
    assert sorted(map(tuple, others)) == sorted(expected)


def test_of_the_jpeg_experiment_the_best_five_above_the_target_count() -> None:
    settings = settings_of("sd15_aesthetic_jpeg")["model"]
    sampler = settings["sampler"]["init_args"]
    assert settings["rewards"]["jpeg"]["init_args"] == {"quality": 95}
    assert (sampler["antithetic"], set(sampler["shaping"]), sampler["max_batch"]) == (True, {"jpeg"}, 10)
    weights = Shaping(**sampler["shaping"]["jpeg"])(torch.linspace(-30.0, -1.0, 30).view(1, 1, 30))
    assert weights.flatten().nonzero().flatten().tolist() == [25, 26, 27, 28, 29]


@pytest.mark.parametrize(("demo", "by_gradient"), [("animals", False), ("animals_dsg", True)])
def test_a_rival_s_config_differs_from_the_demo_s_in_the_sampler_alone(demo: str, by_gradient: bool) -> None:
    """So runs of two of them can be compared. And each rival has one for tiny-animals and one for a published model."""
    plain = settings_of(demo)
    kinds = [kind for kind in map(partial(getattr, samplers), samplers.__all__) if isinstance(kind, type)]
    scalarised = {kind for kind in kinds if issubclass(kind, Scalarised) and not inspect.isabstract(kind)}
    compared = {kind for kind in scalarised if kind.needs_gradient == by_gradient}
    rivals = [name for name in BUILTIN if KINDS[name] in compared]
    published = {KINDS[name] for name in RIVALS if KINDS[name] in compared}
    assert {KINDS[name] for name in rivals} == published == compared - {Particles}
    for name in rivals:
        settings = settings_of(name)
        settings["model"]["sampler"] = plain["model"]["sampler"]
        assert settings.pop("trainer") == {"default_root_dir": f"runs/{name}"}
        assert settings == {key: value for key, value in plain.items() if key != "trainer"}


@pytest.mark.parametrize("name", SEARCHES)
def test_the_options_of_a_config_are_those_of_its_sampler(name: str) -> None:
    given = settings_of(name)["model"]["sampler"]["init_args"]
    made = KINDS[name](**{key: value for key, value in given.items() if not isinstance(value, dict) or key == "units"})
    assert all(getattr(made, key) == value for key, value in given.items() if not isinstance(value, dict))


@pytest.mark.parametrize("name", [*PUBLISHED, *FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in RIVALS)])
def test_a_published_config_s_tiny_twin_runs(name: str, twins: dict[str, str], tmp_path: Path) -> None:
    config = str(save(twin_of(name, twins), tmp_path))
    assert main(["predict", "--config", config, *quick(name), "--trainer.default_root_dir", str(tmp_path / "run")]) == 0
    rows = list(RunDirectory(tmp_path / "run").image_rows())
    assert len(rows) == (13 if "three" in name else 6)
    assert set(rows[0].rewards) == set(settings_of(name)["model"]["rewards"])
    assert all(math.isfinite(score) for row in rows for score in row.rewards.values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_is_planned_without_its_models(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """N a step and anchor in the soup phase, then for every reward with weight of every preference."""
    settings = settings_of(name)["model"]
    points, end = settings["preferences"]["init_args"], settings["sampler"]["init_args"]["sharing"]["init_args"]["end"]
    rewards = len(points["rewards"])
    columns = rewards + rewards * (13 - rewards if "three" in name else 4)
    assert main(["plan", "--config", name]) == 0
    queries = 30 * (rewards * end + columns * (50 - end)) // rewards
    assert f"{queries:,}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", [name if name.startswith("animals") else pytest.param(name, marks=pytest.mark.slow) for name in ADAPTED]
)
def test_a_config_of_adapters_runs_with_adapters_of_tiny_fits(
    name: str, twins: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fits are those that the config's first lines name, with tiny models."""
    monkeypatch.chdir(tmp_path)
    given = settings_of(name)["model"]["adapters"]["init_args"]
    sources = [given["source"]] if "source" in given else [*map(str, given["adapters"].values())]
    if "MORL" in settings_of(name)["model"]["adapters"]["class_path"]:
        sources = list(given["adapters"])
    comments = "".join(line for line in (CONFIGS.find(name) or Path()).read_text().splitlines() if line[0] == "#")
    (config,) = set(re.findall(r"srsoup fit --config (\w+)", comments))
    settings, few = twin_of(config, twins), {"num_inference_steps": 2, "groups": 2, "group_size": 2}
    settings["model"]["training"]["objective"]["init_args"] |= few
    settings["trainer"] |= {"max_epochs": 1, "check_val_every_n_epoch": 2, "accelerator": "cpu"}
    fit = ["fit", "--config", str(save(settings, tmp_path))]
    for source in sources:
        assert main([*fit, "--trainer.default_root_dir", str(Path(source).parent)]) == 0
    predict = ["predict", "--config", str(save(twin_of(name, twins), tmp_path)), "--data.prompts", "[a lobster]"]
    assert main([*predict, "--model.sampler.num_inference_steps", "2"]) == 0
    run = RunDirectory(tmp_path / "runs" / name)
    assert len(list(run.image_rows())) == settings_of(name)["model"]["preferences"]["init_args"]["divisions"] + 1
    assert len(read_used_adapters(run.adapters)) == len(sources)


PINNED = re.compile("@[0-9a-f]{40}$")


@pytest.mark.parametrize("name", [*REAL, *FITS, *ADAPTED])
def test_all_that_a_config_downloads_is_pinned_to_a_commit(name: str) -> None:
    """Its pipeline, parts and LoRAs, and all that its rewards load, except what ships with the package."""
    model = settings_of(name)["model"]
    loading = model.get("loading", {})
    pins = [f"{model['pipeline']}@{loading.get('revision')}", loading.get("vae"), loading.get("preview_decoder")]
    pins += loading.get("loras", {})
    for reward in model["rewards"].values():
        given, options = reward.get("init_args", {}), inspect.signature(locate(reward["class_path"])).parameters
        source = given.get("model") or getattr(options.get("model"), "default", "")
        pins += [f"{source}@{given.get(option)}" for option in options if option.endswith("revision")]
    assert not [pin for pin in pins if pin and "/" in pin and not PINNED.search(pin)]
