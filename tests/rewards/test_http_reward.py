"""HTTPReward against the package's own server on real sockets: the scores of its rewards, only with the right token."""

from __future__ import annotations

import asyncio
import copy
import pickle
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import trustme
from torch import Tensor

from rewards import Colorfulness, HTTPReward, JPEGCompressibility, Reward
from rewards.remote.address import Judge, is_loopback
from rewards.remote.failure import JudgeError
from rewards.remote.protocol import Limits
from tests.rewards.conftest import one_line, smooth
from tests.rewards.judges import asking, rogue, serving, silent

TOKEN = "s3cret-t0ken"
IMAGES, PROMPTS = smooth(24, 16, 7), [f"prompt {index}" for index in range(7)]


class Length(Reward):
    """How long the prompt is, and red: a score tells which image came with which prompt."""

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return images[:, 0].mean((1, 2)) + torch.tensor([float(len(prompt)) for prompt in prompts])


@dataclass
class Authority:
    """A certificate authority that no system trusts, and a server's certificate of it."""

    file: Path
    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("tls")
    files = Authority(folder / "ca.pem", folder / "server.pem", folder / "key.pem")
    ca = trustme.CA()
    own = ca.issue_cert("127.0.0.1")
    ca.cert_pem.write_to_path(files.file)
    own.private_key_pem.write_to_path(files.key)
    for part in own.cert_chain_pems:
        part.write_to_path(files.certificate, append=True)
    return files


@pytest.fixture(scope="module")
def served() -> Iterator[dict[str, str | Reward]]:
    """Rewards by name, and the address of a server that has them."""
    rewards = {"jpeg": JPEGCompressibility(), "colour": Colorfulness(), "length": Length()}
    with serving(rewards) as url:
        yield {"url": url} | rewards


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
@pytest.mark.parametrize("name", ["jpeg", "colour", "length"])
def test_scores_are_the_rewards_own(served: dict, name: str, batch_size: int) -> None:
    prompts = ["", "a", "\u00e9\U0001f980", "\ud800", 'quo"te', "line\nend", "nul\0"]
    remote = HTTPReward(served["url"], name, batch_size=batch_size)
    remote.check()
    expected = served[name].score(IMAGES, prompts)
    torch.testing.assert_close(remote.score(IMAGES, prompts), expected, rtol=0, atol=0)


def test_pixels_are_rounded_to_eight_bits(served: dict) -> None:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 1.001 - 5e-4
    rounded = (images * 255).round().clamp(0, 255).float() / 255
    scores = HTTPReward(served["url"], "length").score(images, ["", ""])
    torch.testing.assert_close(scores, rounded[:, 0].mean((1, 2)), rtol=0, atol=1e-7)
    assert (scores - images[:, 0].mean((1, 2))).abs().max() > 1e-6


def test_over_ipv6_and_inside_a_running_event_loop() -> None:
    async def notebook(url: str) -> Tensor:
        return asking(url).score(IMAGES, PROMPTS)

    with serving({"colour": Colorfulness()}, host="::1") as url:
        torch.testing.assert_close(asyncio.run(notebook(url)), Colorfulness().score(IMAGES, PROMPTS))


def test_the_right_token_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({"colour": Colorfulness()}, token=TOKEN) as url:
        monkeypatch.setenv("JUDGE_TOKEN", TOKEN)
        reward = asking(url, token_variable="JUDGE_TOKEN")
        reward.check()
        expected = Colorfulness().score(IMAGES, PROMPTS)
        torch.testing.assert_close(pickle.loads(pickle.dumps(reward)).score(IMAGES, PROMPTS), expected)
        for wrong in (TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "Bearer"):
            monkeypatch.setenv("JUDGE_TOKEN", wrong)
            for call in (reward.check, lambda: reward.score(IMAGES, PROMPTS)):
                with pytest.raises(JudgeError, match=r"401 Unauthorized \(wrong or no bearer token\): export"):
                    call()
        with pytest.raises(JudgeError, match="401"):
            asking(url).check()
        monkeypatch.delenv("JUDGE_TOKEN")
        with pytest.raises(ValueError, match="JUDGE_TOKEN is not set"):
            copy.deepcopy(reward).score(IMAGES, PROMPTS)


@pytest.mark.parametrize("bad", ["two words", "line\nend", "t\u00f6ken"])
def test_a_token_is_not_shown(monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    monkeypatch.setenv("JUDGE_TOKEN", bad)
    with pytest.raises(ValueError, match="JUDGE_TOKEN holds spaces") as caught:
        asking("http://127.0.0.1:1", token_variable="JUDGE_TOKEN").check()
    assert bad not in str(caught.value)
    assert TOKEN not in repr(Judge("https://judge.example", TOKEN, None, 1.0, 1.0, 0))


def test_tls_is_verified(served: dict, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_TOKEN", TOKEN)
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    own = {"token_variable": "JUDGE_TOKEN", "retries": 3, "timeout": 5.0, "connect_timeout": 5.0}
    colour = {"colour": Colorfulness()}
    with serving(colour, token=TOKEN, certificate=authority.certificate, key=authority.key) as url:
        reward = asking(url, ca_file=authority.file, **own)
        reward.check()
        torch.testing.assert_close(reward.score(IMAGES, PROMPTS), Colorfulness().score(IMAGES, PROMPTS))
        unknown = r"can't be verified \(.*\): give the certificate of its authority as ca"
        for stranger in (None, tmp_path / "other.pem"):
            with pytest.raises(JudgeError, match=unknown):
                asking(url, ca_file=stranger, **own).check()
        with pytest.raises(JudgeError, match=r"can't be verified .*[Hh]ostname"):
            asking(url.replace("127.0.0.1", "localhost"), ca_file=authority.file, **own).check()
    with pytest.raises(JudgeError, match=r"TLS handshake.*give http://"):
        asking(served["url"].replace("http:", "https:")).check()
    with rogue(silent) as judge, pytest.raises(JudgeError, match=r"no connection within|within 0.3 s"):
        asking(judge.url.replace("http:", "https:")).check()


def test_check_finds_what_score_would_stumble_over() -> None:
    with serving({"colour": Colorfulness()}, limits=Limits(images=8)) as url:
        with pytest.raises(ValueError, match="has no reward 'color': choose"):
            asking(url, reward="color").check()
        with pytest.raises(ValueError, match=r"batch_size is 16: judge .* at most 8 images"):
            asking(url).check()
        absent = r"404 Not Found \(no such reward: choose one of colour\): correct url or reward"
        with pytest.raises(JudgeError, match=absent):
            asking(url, reward="color").score(IMAGES, PROMPTS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "judge.example"}, "url is 'judge.example': give the judge's address"),
        ({"url": "ftp://judge.example"}, "give the judge's address"),
        ({"url": "http://judge.example:99999"}, "give the judge's address"),
        ({"url": "http://[::1::2]:80"}, "give the judge's address"),
        ({"url": "http://judge.example\\@127.0.0.1"}, "password or a query"),
        ({"url": "http://judge.example/a b"}, "give the judge's address"),
        ({"url": "http://judge.example\n"}, "give the judge's address"),
        ({"url": "https://judge.example/?key=s3cret"}, "password or a query"),
        ({"url": "https://me:s3cret@judge.example"}, "password or a query"),
        ({"url": "http://judge.example", "token_variable": "T"}, "where others could read a token: use https"),
        ({"url": "http://127.0.0.1.example", "token_variable": "T"}, "could read"),
        ({"url": "http://10.0.0.1", "token_variable": "T"}, "could read"),
        ({"token_variable": "s3cret-token"}, "no name of an environment variable"),
        ({"reward": "a/b"}, "reward is 'a/b': give a name"),
        ({"reward": ".."}, "give a name"),
        ({"batch_size": 0}, "batch_size is 0: give a whole number of at least 1"),
        ({"concurrency": 1.5}, "concurrency is 1.5"),
        ({"retries": -1}, "retries is -1: give a whole number of at least 0"),
        ({"timeout": 0}, "timeout is 0: give seconds above 0"),
        ({"connect_timeout": float("nan")}, "connect_timeout is nan"),
    ],
)
def test_arguments_that_make_no_sense(options: dict, message: str) -> None:
    with one_line(ValueError, message) as caught:
        HTTPReward(**({"url": "http://127.0.0.1:1", "reward": "colour"} | options))
    assert "s3cret" not in str(caught.value)


def test_every_port_may_be_asked() -> None:
    assert HTTPReward("http://127.0.0.1:65535/", "colour").url == "http://127.0.0.1:65535"
    with pytest.raises(ValueError, match="give the judge's address"):
        HTTPReward("http://127.0.0.1:65536", "colour")


def test_certificates_are_looked_at_first(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file; give a PEM"):
        HTTPReward("https://judge.example", "colour", ca_file=tmp_path / "none.pem")
    (tmp_path / "empty.pem").touch()
    with pytest.raises(ValueError, match="holds no certificates"):
        HTTPReward("https://judge.example", "colour", ca_file=tmp_path / "empty.pem")


def test_addresses_of_this_machine_and_of_others() -> None:
    assert all(map(is_loopback, ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "[::1]"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "", "10.0.0.1", "localhost.example", "127.1", "0177.0.0.1"]))


@pytest.mark.parametrize("package", ["httpx2", "tenacity"])
def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "rewards.remote.client")
    install = rf"HTTPReward needs the package {package}: pip install 'srsoup-light"
    with pytest.raises(ModuleNotFoundError, match=install):
        HTTPReward("http://127.0.0.1:1", "colour")
