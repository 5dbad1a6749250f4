"""A server of rewards over HTTP, so that one machine can score for many. :class:`rewards.HTTPReward` is its client."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from rewards.base import Reward
from rewards.function_reward import Rewards, as_rewards
from rewards.remote.address import is_loopback, read_token, require_token_variable
from rewards.remote.protocol import NAME, Limits


def serve(
    rewards: Rewards,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_variable: str | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    device: str = "cpu",
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> None:
    """Serve rewards over HTTP until Ctrl-C or SIGTERM, one request at a time.

    The protocol is in docs/remote-rewards.md. Waiting requests are answered before the end, for up to ten seconds.
    Errors of a reward go to the log with their traceback. The client gets only the name of their type.

    Args:
        rewards: Name to reward, or to a function of images and prompts. Names are part of addresses: letters, digits,
            ".", "_" and "-".
        host: Address to listen at. Every address except this machine's own needs a token.
        port: Port to listen at.
        token_variable: Name of the environment variable with the bearer token that requests must have; None needs no
            token.
        certificate: PEM file of the server's certificate chain, for https. Without it, clients send a token only to
            this machine, or to an https proxy in front of the server.
        key: PEM file of the certificate's private key.
        device: Device of the rewards, such as "cpu" or "cuda".
        limits: Limits beyond which requests are refused.

    Raises:
        ValueError: If a name can't be part of an address, if there is no reward or no such port, if other machines
            would need no token, or if a certificate has no key.
        FileNotFoundError: If there is no such certificate or key.
        ModuleNotFoundError: If the packages of the extra ``serve`` are not installed.
    """
    by_name = as_rewards(rewards)
    _require_names(by_name)
    _require_address(host, port, token_variable)
    _require_files(certificate, key)
    try:
        from rewards.remote.app import make_app, make_server
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            f"serving rewards needs the package {missing.name}: pip install 'srsoup-lightning[serve]'.",
            name=missing.name,
        ) from None
    app = make_app(by_name, read_token(token_variable), device, limits)
    with suppress(KeyboardInterrupt):
        make_server(app, host, port, certificate, key, limits).run()


def _require_names(rewards: dict[str, Reward]) -> None:
    if not rewards:
        raise ValueError("rewards are empty: name at least one to serve.")
    for name in rewards:
        if not NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} can't be part of an address: name rewards by letters, digits, '.', '_' and '-'."
            )


def _require_address(host: str, port: int, token_variable: str | None) -> None:
    if not 0 <= port <= 65535:
        raise ValueError(f"port is {port}: give one from 1 to 65535, or 0 for any that is free.")
    require_token_variable(token_variable)
    if token_variable is None and not is_loopback(host):
        raise ValueError(f"host is {host!r}, which others can reach: give a token_variable, or listen at 127.0.0.1.")


def _require_files(certificate: Path | None, key: Path | None) -> None:
    if (certificate is None) is not (key is None):
        raise ValueError("certificate and key belong together: give both for https, or neither.")
    for file in (certificate, key):
        if file is not None and not file.is_file():
            raise FileNotFoundError(f"no file {file}: give PEM files as certificate and key.")
