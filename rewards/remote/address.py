"""Address of a judge, a remote reward server, and the token for it: the rules of client and server."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from ipaddress import ip_address

_URL = re.compile(r"(https?)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?(?:/[A-Za-z0-9._~%-]+)*/?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Judge:
    """Address of a judge, and the client's patience; arguments as in :class:`rewards.HTTPReward`."""

    url: str
    token: str | None = field(repr=False)
    ca_file: str | None
    timeout: float
    connect_timeout: float
    retries: int


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine, which no other machine can overhear."""
    return ip_address(host.strip("[]")).is_loopback if _is_address(host) else host.lower() == "localhost"


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def require_url(url: str, token_variable: str | None) -> str:
    """The address of a judge, without a slash at the end.

    Raises:
        ValueError: If it is no plain http or https address, or if a token would cross a network unencrypted.
    """
    if "@" in url or "?" in url:
        raise ValueError(
            "url holds a password or a query, which would be written down: give a token by token_variable."
        )
    parts = _URL.fullmatch(url)
    if parts is None or int(parts[3] or 80) > 65535 or (parts[2].startswith("[") and not _is_address(parts[2])):
        raise ValueError(
            f"url is {url!r}: give the judge's address, such as https://judge.example or http://[::1]:8000."
        )
    if token_variable is not None and parts[1] == "http" and not is_loopback(parts[2]):
        raise ValueError(f"url is {url}, where others could read a token: use https, or give no token_variable.")
    return url.rstrip("/")


def require_token_variable(variable: str | None) -> None:
    """Check that the name of an environment variable is not a token by mistake.

    Raises:
        ValueError: If it is no name of a variable. The message does not show it.
    """
    if variable is not None and not _VARIABLE.fullmatch(variable):
        raise ValueError(
            "token_variable is no name of an environment variable: give the name, such as JUDGE_TOKEN, not the token."
        )


def read_token(variable: str | None) -> str | None:
    """The token in an environment variable; None where there is no variable.

    Raises:
        ValueError: If the variable is not set, or holds letters that no header can hold. The message does not show the
            token.
    """
    if variable is None:
        return None
    token = os.environ.get(variable)
    if not token:
        raise ValueError(f"the environment variable {variable} is not set: export the judge's token in it.")
    if not _TOKEN.fullmatch(token):
        raise ValueError(f"{variable} holds spaces, line ends or letters beyond ASCII: export the token alone.")
    return token
