"""A soup in Python code: sampled without a Trainer, shown, and saved for the reports."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.browser import BROWSER, DRIVER, MISSING, open_browser
from srsoup_lightning import Limits, PromptDataModule, SRSoupModule
from srsoup_lightning.costs.limits import LimitError
from srsoup_lightning.oracle import RewardError
from srsoup_lightning.report.compare import compared
from srsoup_lightning.report.gallery import write_gallery
from srsoup_lightning.runs.reading import read_run
from srsoup_lightning.samplers import Moment
from tests.conftest import Broken, Channel, make_module, quiet_trainer

RED_BLUE = {"red": Channel(0), "blue": Channel(2)}
HOSTILE = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'>$id"


def test_sample_makes_the_soup_of_a_trainer_as_often_as_it_is_asked(module: SRSoupModule) -> None:
    moments: list[Moment] = []
    first = module.sample("a cat", seed=3, on_step=moments.append)
    assert [(moment.step, moment.steps) for moment in moments] == [(step, 6) for step in range(1, 7)]
    (by_trainer,) = quiet_trainer().predict(module, PromptDataModule("a cat", [3]))
    for soup in (by_trainer, module.sample("a cat", 3)):
        assert torch.equal(soup.images, first.images)
        assert torch.equal(soup.rewards, first.rewards)
    assert soup.ledger.queries == first.ledger.queries
    assert not module.step_callbacks
    assert len(moments) == 6
    assert not torch.equal(module.sample("a cat").images, first.images)


def test_sample_keeps_the_limits_and_goes_on_after_an_error() -> None:
    full = make_module(RED_BLUE).sample("a cat").ledger.nfe
    module = make_module(RED_BLUE, run_limits=Limits(max_nfe=2 * full))
    module.sample("a cat")
    assert len(quiet_trainer().predict(module, PromptDataModule("a cat"))) == 1
    with pytest.raises(LimitError, match=r"run_limits\.max_nfe"):
        module.sample("a cat")
    with pytest.raises(LimitError, match=r"soup_limits\.max_queries"):
        make_module(RED_BLUE, soup_limits=Limits(max_queries=3)).sample("a cat")
    failing = make_module({"red": Channel(0), "bad": Broken("nan", after=2)})
    with pytest.raises(RewardError, match="'bad' returned nan") as caught:
        failing.sample("a cat", 7, on_step=lambda moment: None)
    assert caught.value.__notes__ == ["while making the soup of prompt 'a cat', seed 7"]
    assert not failing.step_callbacks


@pytest.mark.parametrize(
    ("prompt", "seed", "error"), [("", 0, ValueError), (3, 0, TypeError), ("a cat", 1.5, TypeError)]
)
def test_sample_refuses_what_is_no_prompt_or_no_seed(prompt: object, seed: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"prompt|seed"):
        make_module(RED_BLUE).sample(prompt, seed)


def test_a_soup_is_a_line_of_text_and_pictures_of_8_bits(module: SRSoupModule) -> None:
    soup = module.sample("a cat")
    low, high = soup.rewards[:, 0].min(), soup.rewards[:, 0].max()
    assert repr(soup).startswith(f"Soup('a cat', seed 0: 6 pictures of 8x8, red {low:.4g} to {high:.4g}, blue ")
    assert "\n" not in repr(soup)
    pictures = np.stack([np.asarray(picture) for picture in soup.pil()])
    assert pictures.shape == (6, 8, 8, 3)
    assert np.abs(pictures / 255 - soup.images.permute(0, 2, 3, 1).numpy()).max() <= 0.51 / 255


def test_saved_soups_are_a_run_to_the_reports_and_none_is_overwritten(module: SRSoupModule, tmp_path: Path) -> None:
    soups = [module.sample("a cat"), module.sample("a dog", 1)]
    folder = tmp_path / "saved"
    assert [soup.save(str(folder)) for soup in soups] == [folder, folder]
    run = read_run(folder)
    assert [row.key for row in run.images] == [("a cat", 0)] * 6 + [("a dog", 1)] * 6
    assert [row.rewards["red"] for row in run.images[:6]] == soups[0].rewards[:, 0].tolist()
    assert [cost.ledger for cost in run.costs] == [soup.ledger for soup in soups]
    assert compared([str(folder)]).rows()
    assert write_gallery([str(folder)], tmp_path / "page.html").stat().st_size > 1000
    with pytest.raises(FileExistsError, match="has the soup of prompt 'a cat' and seed 0 already"):
        soups[0].save(folder)
    with pytest.raises(FileExistsError, match=r"has soups of the rewards \['red', 'blue'\], and this one has \['red'"):
        make_module({"red": Channel(0), "green": Channel(1)}).sample("a fox").save(folder)
    with pytest.raises(NotADirectoryError, match="is a file: give a folder"):
        soups[0].save(folder / "samples.jsonl")
    (folder / "ledger.jsonl").write_text((folder / "ledger.jsonl").read_text()[:-9])  # as if killed while writing
    soups[1].save(folder)
    assert len(read_run(folder).costs) == 2


@pytest.mark.browser
@pytest.mark.skipif(not (BROWSER and DRIVER), reason=MISSING)
def test_a_notebook_shows_the_pictures_with_a_slider_and_without_scripts_in_a_row(tmp_path: Path) -> None:
    page = tmp_path / "cell.html"
    view = make_module(RED_BLUE).sample(HOSTILE)._repr_html_()
    assert not re.search(r"(src|href)=.?(?!data:)[a-z]+:", view.partition("<script>(")[0])
    page.write_text(f"<!doctype html><body>{view}{view}", encoding="utf-8")
    with open_browser() as browser:
        browser.get(page.as_uri())
        facts = """
            const [slider, large] = [document.querySelector("input"), document.querySelector("img")];
            slider.value = 4; slider.dispatchEvent(new Event("input"));
            const small = document.querySelectorAll("[data-picture]")[4].querySelector("img");
            return [window.broken, large.src === small.src, large.naturalWidth, document.querySelector("b").innerText];
        """
        assert browser.execute_script(facts) == [None, True, 8, HOSTILE]
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        browser.get(page.as_uri())
        assert len(browser.find_elements("css selector", "[data-picture] img")) == 12
        assert not browser.find_elements("css selector", "input")
