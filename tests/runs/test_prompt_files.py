"""Prompts come out of files of benchmarks as they were put in, and files that can't be read are named."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from srsoup_lightning import PromptDataModule
from srsoup_lightning.cli.main import main
from srsoup_lightning.runs.pictures import find_entries
from srsoup_lightning.runs.prompt_files import read_prompts
from srsoup_lightning.runs.spending import SharedCounts
from tests.cli.test_main import write_config

LETTERS = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])
PROMPTS = st.lists(st.text(st.one_of(LETTERS, st.sampled_from('",\u2028\u0085')), min_size=1), min_size=1).map(
    lambda prompts: [prompt.strip() or "x" for prompt in prompts]
)


@given(PROMPTS, st.sampled_from([".txt", ".csv", ".tsv", ".jsonl", ".json"]), st.booleans())
def test_prompts_come_out_as_they_were_put_in(prompts: list[str], kind: str, marked: bool) -> None:
    """For all line ends of Unicode that are no line ends of files, with and without a byte-order mark."""
    rows = [{"id": str(number), "Prompt": prompt} for number, prompt in enumerate(prompts)]
    if kind == ".txt":
        text = "\n".join(prompts)
    elif kind == ".json":
        text = json.dumps(rows)
    elif kind == ".jsonl":
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        marked = False
    else:
        table = StringIO(newline="")
        writer = csv.DictWriter(table, ["id", "Prompt"], delimiter="," if kind == ".csv" else "\t")
        writer.writeheader()
        writer.writerows(rows)
        text = table.getvalue()
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"prompts{kind}"
        file.write_text(("\ufeff" if marked else "") + text, encoding="utf-8")
        assert read_prompts(file) == prompts


def test_cells_may_be_long_and_the_limit_of_other_readers_of_tables_stays(tmp_path: Path) -> None:
    before, prompt = csv.field_size_limit(), "a cat " * 50_000 + "and a dog"
    (tmp_path / "long.csv").write_text(f"prompt\n{prompt}\n")
    assert read_prompts(tmp_path / "long.csv") == [prompt]
    assert csv.field_size_limit() == before < len(prompt)


BENCHMARKS = {
    "parti.tsv": 'Prompt\tCategory\tChallenge\tNote\na bowl\tArtifacts\tBasic\t\na 5" nail, "new"\tWorld\tBasic\t\n',
    "cells.csv": 'name,prompt\none,"a cat\non a mat"\ntwo,"a ""dog"""\n',
    "geneval.jsonl": '{"tag": "one", "include": [{"class": "bench"}], "prompt": "a photo of a bench"}\n',
    "hps.json": '["a cat", "a dog"]',
}
FOUND = {
    "parti.tsv": ["a bowl", 'a 5" nail, "new"'],
    "cells.csv": ["a cat\non a mat", 'a "dog"'],
    "geneval.jsonl": ["a photo of a bench"],
    "hps.json": ["a cat", "a dog"],
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_files_in_the_form_of_known_benchmarks(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(BENCHMARKS[name])
    assert PromptDataModule(str(tmp_path / name)).prompts == FOUND[name]


@pytest.mark.parametrize(
    ("name", "content", "column", "message"),
    [
        ("p.csv", b"name,text\na,a cat\n", None, r"line 2 has no column prompt or prompts, but 'name', 'text': name"),
        ("p.csv", b"name,text\na,a cat\n", "texts", "no column 'texts'"),
        ("p.csv", b"prompt,prompts\na,b\n", None, "2 columns prompt or prompts"),
        ("p.csv", b"prompt,prompt\na,b\n", None, "names a column twice"),
        ("p.csv", b"prompt,n\na cat,1,2\n", None, "line 2 has 3 cells for 2 columns"),
        ("p.csv", b'prompt\n"a cat\n', None, "damaged.*double quotes"),
        ("p.csv", b"prompt,n\n ,1\n", None, "line 2 has no prompt in 'prompt', but ' '"),
        ("p.jsonl", b'{"prompt": 3}\n', None, "line 1 has no prompt in 'prompt', but '3'"),
        ("p.jsonl", b'"a cat"\n', None, "line 1 is damaged"),
        ("p.json", b'{"prompt": "a cat"}', None, "no list of texts or of objects"),
        ("p.json", b"[" * 100_000, None, "damaged"),
        ("p.parquet", b"PAR1", None, r"is of the kind \.parquet: give one of \.txt, \.csv"),
        ("p.txt", "a café".encode("latin-1"), None, "not in UTF-8"),
        ("p.txt", "a cat".encode("utf-16"), None, "not in UTF-8"),
        ("p.txt", b"a cat", "prompt", "a text without columns"),
    ],
)
def test_what_is_no_file_of_prompts_is_named(
    tmp_path: Path, name: str, content: bytes, column: str | None, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"p\.\w+.*{message}"):
        read_prompts(tmp_path / name, column)


def test_pictures_get_the_prompts_of_tables_by_their_names_or_their_order(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes((Path(__file__).parents[2] / "checkpoints/tiny-animals/grid.png").read_bytes())
    (tmp_path / "named.csv").write_text("caption,image\na dog,b.png\na cat,a.png\n")
    (tmp_path / "ordered.json").write_text('["a cat", "a dog"]')
    (tmp_path / "ordered.csv").write_text("prompt\na cat\na dog\n")
    for name, column in {"named.csv": "caption", "ordered.json": None, "ordered.csv": None}.items():
        found = {entry.row.image: entry.row.prompt for entry in find_entries(tmp_path, tmp_path / name, column)}
        assert found == {"a.png": "a cat", "b.png": "a dog"}


def test_a_picture_whose_name_is_not_in_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a cat")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).write_bytes(b"")
    with pytest.raises(ValueError, match=r"caf\\udce9\.png' has a name that is not in UTF-8"):
        find_entries(tmp_path, tmp_path / "p.txt")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB.encode(), "more than 100,000 entries"),
        (b"a: &a [*a]", "an alias of itself"),
        (b"a: caf\xe9", "not in UTF-8"),
        (b"a: 1\nb: [", "line 2 is no YAML"),
        (b"[" * 10_000, "without end"),
        (None, "is a folder, a pipe or a device"),
    ],
)
def test_a_config_that_can_not_be_read_is_named(
    tmp_path: Path, content: bytes | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config, run = write_config(tmp_path), tmp_path / "run"
    assert main(["predict", "--config", str(config), "--trainer.logger", "false"]) == 0
    broken = tmp_path / "broken.yaml"
    for path, again in ((broken, broken), (run / "config.yaml", config)):
        path.unlink(missing_ok=True)
        if content is None:
            os.mkfifo(path)
        else:
            path.write_bytes(content)
        capsys.readouterr()
        assert main(["predict", "--config", str(again), "--trainer.logger", "false"]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert str(path) in said
        assert message in said


@pytest.mark.parametrize(
    "content", ['{"spent": {"a": NaN}}', '{"spent": {"a": -1}}', '{"held": {"a": -1}}', '{"spent": {"a": "1"}}', "[]"]
)
def test_counts_that_would_switch_a_budget_off_are_damage(tmp_path: Path, content: str) -> None:
    (tmp_path / "spending.json").write_text(content)
    with pytest.raises(ValueError, match=r"spending\.json is damaged .*: delete it"):
        SharedCounts(tmp_path / "spending.json").read()


def test_configs_are_utf_8_whatever_the_locale_and_output_replaces_what_the_terminal_lacks(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    content = yaml.safe_load(config.read_text()) | {"data": {"prompts": ["a café 猫"]}}
    config.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "srsoup_lightning", "predict", "--config", str(config), "--trainer.logger=false"]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "a café 猫" in (tmp_path / "run" / "samples.jsonl").read_text(encoding="utf-8")
    assert b"a caf? ?" in done.stdout
    done.stdout.decode("ascii")
