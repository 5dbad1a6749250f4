"""A fresh Python process: the package is imported fast, without heavy packages, and its networks load in silence."""

from __future__ import annotations

import subprocess
import sys

from tests.rewards.conftest import Files

CODE = """
import sys, time, torchmetrics
before, start = set(sys.modules), time.process_time()
import rewards
print(time.process_time() - start, *{name.partition(".")[0] for name in set(sys.modules) - before})
import torch
from rewards import *
clip, head, siglip, blip, bert, llava = sys.argv[1:]
loaded = [kind(clip) for kind in (CLIPScore, PickScore, HPSv2)] + [AestheticScore(clip, head=head)]
loaded += [CLIPScore(siglip), ImageReward(blip, tokenizer=bert), VQAScore(llava)]
for reward in loaded:
    reward.score(torch.rand(1, 3, 20, 20), ["cat"])
"""
HEAVY = {"transformers", "diffusers", "lightning", "srsoup_lightning", "httpx2", "anyio", "tenacity", "fastapi"}


def test_the_import_is_light_and_loading_is_silent(files: Files) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, *files], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    seconds, *names = line.split()
    assert not HEAVY & set(names)
    assert float(seconds) < 0.5
