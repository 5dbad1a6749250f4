"""Errors of requests to a judge, a remote reward server: one line each, and whether a retry may help."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from socket import gaierror

import httpx2

LONGEST_WAIT = 30.0  # seconds between two attempts
_LONGEST_QUOTE = 200  # letters


class JudgeError(ConnectionError):
    """A judge gave no scores. The message names the judge, its answer and the remedy."""


class AttemptError(Exception):
    """One attempt failed.

    Args:
        what: The failure, as the rest of a sentence about the judge.
        advice: The remedy.
        passing: Whether a retry may help.
        wait: Seconds that the judge asks to wait before the next attempt.
    """

    def __init__(self, what: str, advice: str, *, passing: bool = False, wait: float = 0.0) -> None:
        super().__init__(what, advice)
        self.what, self.advice, self.passing, self.wait = what, advice, passing, wait

    def after(self, url: str, attempts: int) -> JudgeError:
        """The error after that many failed attempts at that address."""
        count = "" if attempts == 1 else f" (attempt {attempts}, the last)"
        return JudgeError(f"judge {url} {self.what}{count}: {self.advice}.")


def failure_of_error(error: httpx2.RequestError) -> AttemptError:
    """The failure of a request without a complete answer."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            what = f"has a certificate that can't be verified ({cause.verify_message})"
            return AttemptError(what, "give the certificate of its authority as ca_file, or correct url")
    if isinstance(error, httpx2.ConnectTimeout):
        what, advice = "took no connection within connect_timeout", "start it, or correct url"
    elif any(isinstance(cause, gaierror) for cause in causes):
        what, advice = "has a host name that can't be looked up", "correct url"
    elif any(isinstance(cause, ssl.SSLError) for cause in causes):
        what, advice = "broke off the TLS handshake", "see its log, or give http:// if it speaks no TLS"
    elif isinstance(error, httpx2.ConnectError):
        what, advice = "refused the connection or can't be reached", "start it, or correct url"
    else:
        what, advice = "broke off, or answered with no valid HTTP", "see its log, or correct url"
    return AttemptError(what, advice, passing=True)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for member in error.exceptions:
                yield from _causes(member)
        error = error.__cause__ or error.__context__


def failure_of_status(response: httpx2.Response, content: bytes, token: str | None) -> AttemptError:
    """The failure of an answer with a status other than 200.

    Args:
        response: Status and headers of the answer.
        content: Its body, perhaps cut.
        token: The token, which must not be quoted.
    """
    status = response.status_code
    what = f"answered {status} {_phrase(status)}{_quote(content, token)}"
    if status in (401, 403):
        return AttemptError(what, "export the judge's token and name its variable as token_variable")
    if 300 <= status < 400:
        return AttemptError(
            what, "redirects are not followed, because the token would go elsewhere; give the final address as url"
        )
    if status == 404:
        return AttemptError(what, "correct url or reward")
    if status != 429 and status < 500:
        return AttemptError(what, "change the reward's arguments to what the judge takes")
    wait = _wait(response.headers.get("Retry-After", ""))
    if wait > LONGEST_WAIT:
        return AttemptError(f"{what} and asks to wait {wait:.0f} s", "try again then")
    return AttemptError(what, "see its log, or raise retries", passing=True, wait=wait)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "(no status of HTTP)"


def _quote(content: bytes, token: str | None) -> str:
    """Quote of a judge's error in one line, without the token and control characters, cut to a length."""
    try:
        text = json.loads(content)["error"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return ""
    if not isinstance(text, str):
        return ""
    if token is not None:
        text = text.replace(token, "***")
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split()).rstrip(".")
    return f" ({text[:_LONGEST_QUOTE]})" if text else ""


def _wait(retry_after: str) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 if it is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError, OSError):
        return 0.0
