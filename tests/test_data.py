from __future__ import annotations

from pathlib import Path

import pytest

from srsoup_lightning import PromptDataModule


def requests(data: PromptDataModule) -> list[tuple[str, int]]:
    return [tuple(request) for request in data.predict_dataloader()]


def test_every_prompt_comes_with_every_seed() -> None:
    data = PromptDataModule(prompts=["a cat", "a dog"], seeds=[3, 1])
    assert requests(data) == [("a cat", 3), ("a cat", 1), ("a dog", 3), ("a dog", 1)]


def test_a_file_has_a_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("a cat \n\nun éléphant\n", encoding="utf-8")
    assert requests(PromptDataModule(str(path))) == [("a cat", 0), ("un éléphant", 0)]
    path.write_text("\n")
    with pytest.raises(ValueError, match=r"no prompts in .*prompts\.txt"):
        PromptDataModule(str(path))


def test_a_text_that_is_no_file_is_a_prompt_and_one_that_looks_like_a_path_is_missed(tmp_path: Path) -> None:
    for prompt in ("a lobster", "a black/white cat", "long " * 300, str(tmp_path.name)):
        assert PromptDataModule(prompt).prompts == [prompt]
    for path in ("nowhere.txt", "prompts/animals", "Prompts.CSV"):
        with pytest.raises(FileNotFoundError, match=f"no prompt file '{path}'.*list of prompts"):
            PromptDataModule(path)


@pytest.mark.parametrize(
    ("prompts", "seeds", "message"),
    [
        ([], [0], "no prompts"),
        (["a cat", " "], [0], "empty"),
        (["a cat", "a cat"], [0], "'a cat' is given 2 times"),
        (["a cat"], [], "no seeds"),
        (["a cat"], [1, 1], "seed 1 is given 2 times"),
    ],
)
def test_what_makes_no_soups_is_refused(prompts: list[str], seeds: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PromptDataModule(prompts, seeds)


@pytest.mark.parametrize(
    ("prompts", "seeds", "message"),
    [
        ([3], [0], "prompt is 3: give a text"),
        (["a cat"], 3, "seeds is 3: give a list"),
        (["a cat"], [0.5], "seed is 0.5: give a whole"),
    ],
)
def test_prompts_are_texts_and_seeds_whole_numbers(prompts: list, seeds: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        PromptDataModule(prompts, seeds)
