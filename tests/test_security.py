"""Attacks on the promises of docs/security.md. Those on the reward server are in tests/rewards/test_server.py."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import shutil
import sys
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from io import StringIO
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from PIL import Image

from rewards import AestheticScore, Brightness, CLIPScore, ImageReward, VQAScore
from srsoup_lightning.callbacks import SoupProgress
from srsoup_lightning.cli.compare import compare
from srsoup_lightning.cli.gallery import gallery
from srsoup_lightning.cli.main import main
from srsoup_lightning.cli.score import score
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.data import PromptDataModule, SoupRequest
from srsoup_lightning.diffusion.loading.pipeline import Loading, load_backbone
from srsoup_lightning.report.compare import compared
from srsoup_lightning.report.comparison import as_csv
from srsoup_lightning.report.sheet import write_sheets
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.files import read_rows
from srsoup_lightning.runs.reading import read_run
from srsoup_lightning.samplers.result import Moment
from srsoup_lightning.terminal import literal, printable
from tests.cli.test_main import MODEL, write_config
from tests.diffusion.conftest import tiny_pipeline
from tests.report.runs import change_first_row, make_run
from tests.rewards.conftest import save_tiny_clip, save_tiny_llava

ESCAPE = "\x1b]0;owned\x07\x1b[2Ja cat\r\x1b[1A\x9b31m"
TOKEN = "hf_s3cretT0ken"


class Payload:
    """An object that leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """A path that foreign code would make. It must not exist in the end."""
    path = tmp_path / "mark"
    yield path
    assert not path.exists(), "foreign code was run"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("saved")
    tiny_pipeline().save_pretrained(root / "pipeline")
    save_tiny_clip(root / "clip")
    save_tiny_llava(root / "llava")
    return root


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(saved / name, tmp_path / name))


def edit(file: Path, **entries: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def refused(call: Callable[[], object], message: str, error: type[Exception] = ValueError) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_payload_would_work(tmp_path: Path) -> None:
    torch.save(Payload(tmp_path / "mark"), tmp_path / "evil.pt")
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"])
def test_no_pickle_of_a_pipeline_is_opened(copy: Callable[[str], Path], mark: Path, part: str) -> None:
    folder = copy("pipeline")
    file = folder / f"{part}.safetensors"
    torch.save(Payload(mark), file)
    refused(lambda: load_backbone(str(folder)), "is no safetensors file, whatever its name says: get it anew")
    file.rename(file.with_suffix(".bin"))
    refused(lambda: load_backbone(str(folder)), "a pickle, and no safetensors: convert it once")
    index = {"metadata": {"total_size": 1}, "weight_map": {"conv_in.weight": file.with_suffix(".bin").name}}
    file.with_suffix(".safetensors.index.json").write_text(json.dumps(index))
    refused(lambda: load_backbone(str(folder)), "a pickle, and no safetensors: convert it once")


MODELS = {f"{part}/diffusion_pytorch_model.bin": part for part in ("network", "vae", "preview_decoder")}
LORAS = ["lora.bin", "lora.pt", "lora.safetensors", "lora/pytorch_lora_weights.bin", "peft/adapter_model.bin"]


@pytest.mark.parametrize(("name", "option"), (MODELS | dict.fromkeys(LORAS, "loras")).items())
def test_no_pickle_is_added_to_a_pipeline(saved: Path, tmp_path: Path, mark: Path, name: str, option: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    torch.save(Payload(mark), file)
    (file.parent / "adapter_config.json").write_text("{}")
    shutil.copy(saved / "pipeline" / "unet" / "config.json", file.parent)
    source = str(file if file.parent == tmp_path else file.parent)
    loading = Loading(**{option: {source: 1.0} if option == "loras" else source})
    message = "with safetensors" if "_model" in name else "safetensors|can't be loaded"
    refused(lambda: load_backbone(str(saved / "pipeline"), loading), message, (ValueError, FileNotFoundError))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_no_pickle_of_a_reward_is_opened(copy: Callable[[str], Path], mark: Path, name: str) -> None:
    folder = copy("clip")
    (folder / "model.safetensors").unlink()
    torch.save(Payload(mark), folder / name)
    message = "no safetensors weights.*write it again|of another format .*download it again"
    refused(lambda: CLIPScore(str(folder)), message)


@pytest.mark.parametrize("suffix", ["pth", "pt", "safetensors"])
def test_a_pickle_with_its_checksum_is_opened_for_tensors_alone(saved, tmp_path: Path, mark, suffix: str) -> None:
    file = tmp_path / f"head.{suffix}"
    torch.save({"layers.0.weight": Payload(mark)}, file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    clip = str(saved / "clip")
    refused(lambda: AestheticScore(clip, head=file, sha256=sha256), f"is no .{suffix} file of tensors")
    if suffix != "safetensors":
        refused(lambda: AestheticScore(clip, head=file), "no pickle without a checksum")


def test_no_checkpoint_of_lightning_is_unpickled(tmp_path: Path, mark: Path, capsys) -> None:
    config = write_config(tmp_path)
    torch.save({"state_dict": {}, "epoch": Payload(mark)}, tmp_path / "evil.ckpt")
    assert main(["predict", "--config", str(config), "--ckpt_path", str(tmp_path / "evil.ckpt")]) == 1
    assert "Weights only load failed" in capsys.readouterr().err


def plant(folder: Path, mark: Path, name: str = "evil.py") -> None:
    """Put code into a folder that marks when it is run, and has classes of every kind."""
    (folder / name).parent.mkdir(exist_ok=True)
    lines = ["import os", f"os.mkdir({str(mark)!r})", "from diffusers import UNet2DConditionModel as Model"]
    (folder / name).write_text("\n".join([*lines, "class Evil(Model): pass", "def generate(*a, **b): pass"]))


@pytest.mark.parametrize(
    ("file", "entry", "message"),
    [
        ("unet/evil.py", {"unet": ["evil", "Evil"]}, r"own code, unet/evil\.py: read .*_remote_code: true"),
        ("unet/diffusers.py", {"unet": ["diffusers", "Evil"]}, r"a unet of its own code, unet/diffusers\.py"),
        ("evil_module.py", {"unet": ["evil_module", "Evil"]}, "of its own code"),
        ("pipeline.py", {"_class_name": ["pipeline", "Evil"]}, "is no class name"),
    ],
)
def test_no_pipeline_brings_its_code(copy, mark: Path, monkeypatch, file: str, entry: dict, message: str) -> None:
    folder = copy("pipeline")
    plant(folder, mark, file)
    monkeypatch.syspath_prepend(folder)
    edit(folder / "model_index.json", **entry)
    refused(lambda: load_backbone(str(folder)), message)
    assert {"evil", "evil_module", "pipeline"}.isdisjoint(sys.modules)


def test_code_runs_when_trust_in_it_is_written(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("pipeline")
    plant(folder / "unet", tmp_path / "mark")
    edit(folder / "model_index.json", unet=["evil", "Evil"])
    backbone = load_backbone(str(folder), Loading(trust_remote_code=True))
    assert type(backbone.network).__name__ == "Evil"
    assert (tmp_path / "mark").exists()


def test_no_attention_kernels_come_from_the_hub_untrusted() -> None:
    message = "downloads code from the hub and runs it: .*trust_remote_code: true"
    refused(lambda: Loading(attention="flash_hub"), message)
    assert Loading(attention="flash_hub", trust_remote_code=True).attention == "flash_hub"


AUTO = {f"Auto{kind}": "evil.Evil" for kind in ("Config", "ModelForImageTextToText", "Processor", "ImageProcessor")}
AUTO |= {"AutoTokenizer": ["evil.Evil"] * 2}
EVIL = {"processor_class": "Evil", "tokenizer_class": "Evil"}


@pytest.mark.parametrize(
    ("file", "entries", "message"),
    [
        ("config.json", {}, None),
        ("config.json", {"model_type": "evil"}, "no model that this transformers knows .*custom code"),
        ("tokenizer_config.json", EVIL, None),
        ("processor_config.json", EVIL, "custom code"),
    ],
)
def test_no_model_of_a_reward_brings_its_code(copy, mark: Path, file: str, entries: dict, message: str | None) -> None:
    folder = copy("llava")
    plant(folder, mark)
    plant(folder, mark, "custom_generate/generate.py")
    edit(folder / file, auto_map=AUTO, **entries)
    if message is not None:
        refused(lambda: VQAScore(folder), message, (ValueError, FileNotFoundError))
        return
    reward = VQAScore(folder)
    assert type(reward.networks[0]).__name__ == "LlavaForConditionalGeneration"
    assert type(reward._processor).__name__ == "LlavaProcessor"


def test_a_chat_template_reaches_nothing_outside_itself(copy: Callable[[str], Path], mark: Path) -> None:
    folder = copy("llava")
    hostile = "{{ cycler.__init__.__globals__.os.mkdir('" + str(mark) + "') }}{{ ''.__class__.__mro__ }}"
    (folder / "chat_template.jinja").write_text(hostile)
    with pytest.raises(Exception, match=r"unsafe|undefined"):
        VQAScore(folder).score(torch.rand(1, 3, 8, 8), ["a"])


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir [{}]", "!!python/name:os.mkdir", "!!python/module:os"])
def test_yaml_makes_no_objects(tmp_path: Path, mark: Path, capsys: pytest.CaptureFixture[str], tag: str) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"model: {tag.format(mark)}\n")
    for command in ("predict", "score", "serve-reward"):
        assert main([command, "--config", str(config)]) != 0
        assert "python/" in capsys.readouterr().err


def test_the_config_in_a_run_directory_makes_no_objects(tmp_path: Path, mark: Path, capsys) -> None:
    config = write_config(tmp_path)
    assert main(["predict", "--config", str(config), "-q"]) == 0
    RunDirectory(tmp_path / "run").config.write_text(f"model: !!python/object/apply:os.mkdir [{mark}]\n")
    assert main(["predict", "--config", str(config), "-q"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def png(path: Path, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path, "PNG")
    return path


def graded(prompt: str, seed: int, weights: tuple[float, float]) -> tuple[float, float]:
    return weights[0] + 0.1 * seed, weights[1]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(make_run(tmp_path / "run", graded))


def readers(run: RunDirectory) -> list[Callable[[], object]]:
    out = run.root.parent / "out"
    return [
        lambda: gallery([str(run.root)], str(out / "gallery.html")),
        lambda: compare([str(run.root)], str(out / "comparison")),
        lambda: score({"light": Brightness()}, str(run.root), out=str(out / "scores.jsonl")),
        lambda: write_sheets(read_run(run.root)),
    ]


@pytest.mark.parametrize("way", ["../private.png", "absolute", "samples/../../private.png", "link"])
@pytest.mark.parametrize("reader", range(4))
def test_nothing_outside_a_run_directory_is_read(tmp_path: Path, run: RunDirectory, way: str, reader: int) -> None:
    private = png(tmp_path / "private.png")
    if way == "link":
        (run.root / "link").symlink_to(private)
    change_first_row(run.samples, image=str(private) if way == "absolute" else way)
    refused(readers(run)[reader], "lies outside: copy the picture into the directory")


@pytest.mark.parametrize("prompts", ["a cat", '{"image": "../private.png", "prompt": "a cat"}'])
def test_score_reads_nothing_outside_the_folder_of_the_pictures(tmp_path: Path, prompts: str) -> None:
    folder, private = tmp_path / "pictures", png(tmp_path / "private.png")
    png(folder / "a.png")
    kind = ".jsonl" if prompts.startswith("{") else ".txt"
    if kind == ".txt":
        (folder / "b.png").symlink_to(private)
    (tmp_path / f"prompts{kind}").write_text(prompts)
    given = {"light": Brightness()}, str(folder), str(tmp_path / f"prompts{kind}"), str(tmp_path / "scores.jsonl")
    refused(lambda: score(*given), "lies outside: copy the picture into the directory")


def test_pictures_scored_elsewhere_are_still_found(tmp_path: Path) -> None:
    for number in range(2):
        png(tmp_path / "elsewhere" / f"{number}.png")
    (tmp_path / "prompts.txt").write_text("a cat")
    table = tmp_path / "scores" / "scores.jsonl"
    score({"light": Brightness()}, str(tmp_path / "elsewhere"), str(tmp_path / "prompts.txt"), str(table))
    assert "data:image/webp" in gallery([str(table)], str(tmp_path / "gallery.html")).read_text()


def bomb(path: Path) -> None:
    """A PNG of four hundred million pixels in a kilobyte or so: its head is all that is there."""
    content = png(path).read_bytes()
    head = content[12:16] + (20_000).to_bytes(4, "big") * 2 + content[24:29]
    path.write_bytes(content[:12] + head + zlib.crc32(head).to_bytes(4, "big") + content[33:])


POSTSCRIPT = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize("reader", range(4))
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (bomb, "more than .* megapixels, as files that are made to fill the memory"),
        (lambda path: path.write_text(POSTSCRIPT), "torn or no picture"),
        (lambda path: path.write_text("root:x:0:0:root:/root:/bin/sh\n"), "torn or no picture"),
        (lambda path: os.mkfifo(path), "a pipe or a device, no picture|isn't there"),
    ],
)
def test_what_is_no_picture_is_refused(run: RunDirectory, spoil: Callable, message: str, reader: int) -> None:
    path = run.picture(next(run.image_rows()).image)
    path.unlink()
    spoil(path)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        readers(run)[reader]()
    assert "/bin/sh" not in str(caught.value)


# Scores of their own replace those of a row, so scoring reads no other key.
NO_PICTURE = ["[" * 100_000, "7", '["prompt", "image", "rewards"]', '"prompt": ["a"]', '"image": {}']
NO_SCORES = [
    *(f'"rewards": {{"jpeg": {number}}}' for number in ("9" * 5000, "1" + "0" * 400, "NaN")),
    *('"rewards": [1]', '"seed": "0"', '"preference": {"jpeg": "1"}', '"failed": 3'),
]


@pytest.mark.parametrize("damage", [*NO_PICTURE, *NO_SCORES], ids=lambda damage: damage[:30])
def test_damaged_rows_of_pictures_are_named(run: RunDirectory, damage: str) -> None:
    row = '{"prompt": "a", "image": "a.png", "rewards": {"jpeg": 1}, ' + damage + "}"
    run.samples.write_text((row if damage.startswith('"') else damage) + "\n")
    for read in readers(run)[: 3 if damage in NO_PICTURE else 2]:
        refused(read, "samples.jsonl, line 1 ")


def test_damaged_rows_of_a_run_are_named(tmp_path: Path) -> None:
    for row in ("[" * 100_000, '{"seconds": NaN}', '{"seconds": -Infinity}', "9" * 5000):
        (tmp_path / "ledger.jsonl").write_text(row + "\n")
        refused(lambda: list(read_rows(tmp_path / "ledger.jsonl")), "line 1 is damaged")


def test_a_prompt_that_no_file_can_hold_is_refused_before_anything(run: RunDirectory) -> None:
    for prompt in ("\ud800", "a cat \udcff"):
        refused(partial(PromptDataModule, [prompt]), "no text in UTF-8")
    row = next(run.image_rows()).to_json()
    run.samples.write_text(json.dumps(row | {"prompt": "\ud800"}) + "\n")
    for read in readers(run)[:3]:
        refused(read, "samples.jsonl, line 1 has the prompt .* no text in UTF-8")


def test_an_error_is_one_line_with_control_characters_written_out(tmp_path: Path, capsys) -> None:
    assert printable("\x1b[2Jä\r\n\u202e\ud800😀") == r"\x1b[2Jä\r\n\u202e\ud800😀"
    assert literal("[red]x\x1b") == r"\[red]x\x1b"
    assert main(["-q", "gallery", str(tmp_path / ESCAPE), "--out", str(tmp_path / "g.html")]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert printable(error.strip()) == error.strip()


def test_progress_shows_a_prompt_and_obeys_none() -> None:
    progress = SoupProgress()
    progress._progress = Mock()
    progress.on_soup_start(SoupRequest(ESCAPE, 0))
    progress._move(Moment(step=1, steps=2, ledger=Ledger()))
    shown = progress._progress.update.call_args.kwargs["description"]
    assert printable(shown) == shown
    assert "a cat" in shown


def test_names_from_a_run_control_no_terminal_no_markup_and_no_figure(tmp_path: Path, capsys) -> None:
    names = (f"$\\frac{{x}}$ [red]{ESCAPE}", "</text><script>alert(1)</script> $a$b$")
    run = make_run(tmp_path / "run", graded, prompts=[ESCAPE, "=1+1"], rewards=names)
    compare([f"<script>$x${ESCAPE}={run}"], str(tmp_path / "out"))
    shown = capsys.readouterr().out
    assert not {"\x1b", "\x9b"} & set(shown)
    assert "[red]" in shown
    for figure in (tmp_path / "out").glob("*.svg"):
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(figure).iter()}
        assert not tags & {"script", "image", "foreignObject"}


def test_a_name_in_a_table_is_one_cell(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", graded, seeds=[0])
    table = as_csv(compared([f'a,"b"\n@1={run}']))
    assert {row["run"] for row in csv.DictReader(StringIO(table))} == {'a,"b"\n@1'}


@pytest.mark.parametrize("name", ["=cmd|'-C calc'!A0", "+1", "-1", "@SUM(1)", "\tx", " =1", "|x", "\uff1d1"])
def test_no_name_of_a_run_is_a_formula(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path / name, graded)
    refused(lambda: compare([run], str(tmp_path / "out")), "a formula to spreadsheets: name it by label=")
    assert not (tmp_path / "out").exists()


def test_no_token_of_the_environment_is_written_or_shown(tmp_path: Path, monkeypatch, capfd, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "JUDGE_TOKEN"):
        monkeypatch.setenv(name, TOKEN)
    options = {"url": "http://127.0.0.1:9", "reward": "red", "token_variable": "JUDGE_TOKEN", "retries": 0}
    remote = {"class_path": "rewards.HTTPReward", "init_args": options}
    for rewards in (MODEL["rewards"], MODEL["rewards"] | {"red": remote}):
        command = ["predict", "--config", str(write_config(tmp_path, rewards=rewards)), "--writer.overwrite", "true"]
        main([*command, "--print_config"])
        main(command)
    main([*command, "-v"])
    output = capfd.readouterr()
    assert "Traceback" in output.err
    assert "can't be asked" in output.err
    assert "JUDGE_TOKEN" in output.out
    assert TOKEN not in output.out + output.err + caplog.text
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


WITH_TOKEN = f"https://user:{TOKEN}@hub.example/me/model"


@pytest.mark.parametrize(
    "make",
    [
        *(partial(Loading, **{option: WITH_TOKEN}) for option in ("network", "vae", "preview_decoder")),
        lambda: Loading(loras={WITH_TOKEN: 1.0}),
        lambda: CLIPScore(WITH_TOKEN),
        lambda: VQAScore(WITH_TOKEN),
        lambda: AestheticScore(head=WITH_TOKEN),
        lambda: ImageReward(WITH_TOKEN, tokenizer=WITH_TOKEN),
    ],
)
def test_a_url_with_a_token_is_refused_unseen(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="a URL: give") as caught:
        make()
    assert TOKEN not in str(caught.value)


def test_a_pipeline_s_url_with_a_token_is_written_nowhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--config", str(write_config(tmp_path, pipeline=WITH_TOKEN))]) != 0
    output = capfd.readouterr()
    assert "pipeline is a URL: give a folder or a hub id" in output.err
    assert TOKEN not in output.out + output.err
    assert not (tmp_path / "run").exists()
