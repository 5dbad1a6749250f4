"""Errors of the hub in plain words: why it gave no file, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rewards.checks import first_line

NO_FILE = "the hub has no such file in it"
OFFLINE = "the cache lacks it, and HF_HUB_OFFLINE forbids to ask the hub, so set it to 0 for the first download"
UNREACHABLE = "the hub can't be reached, and the cache lacks it, so check the connection, and HF_ENDPOINT if it is set"


def not_downloaded(what: str, revision: str | None, error: BaseException) -> FileNotFoundError | None:
    """Error where a model of the hub can't be downloaded, or None where the hub is not the cause.

    Args:
        what: Kind and id of the model.
        revision: Its commit, tag or branch; None for the main branch.
        error: Error of huggingface_hub, or of a library that uses it.
    """
    cause = hub_cause(error)
    at = "" if revision is None else f" at revision {revision!r}"
    return None if cause is None else FileNotFoundError(f"{what}{at} can't be downloaded: {cause}")


def hub_cause(error: BaseException) -> str | None:
    """Reason why the hub gave no file, and what to do, or None where the hub is not among the causes of an error."""
    from huggingface_hub import constants, errors

    reasons: dict[type[BaseException], str] = {  # the first that fits: some of these classes derive from others
        errors.OfflineModeIsEnabled: OFFLINE,
        errors.GatedRepoError: "accept its licence on its page, and log in with `hf auth login` or HF_TOKEN",
        errors.RepositoryNotFoundError: "the hub has no such id, or shows it only after `hf auth login`",
        errors.RevisionNotFoundError: "the hub has no such revision of it",
        errors.LocalEntryNotFoundError: OFFLINE if constants.HF_HUB_OFFLINE else UNREACHABLE,
        errors.EntryNotFoundError: NO_FILE,
        errors.HfHubHTTPError: f"the hub refuses it ({first_line(error)})",
        _transport_error(): "the connection to the hub failed, so check it and start the same command again",
    }
    cause: BaseException | None = error
    while cause is not None:
        for kind, reason in reasons.items():
            if isinstance(cause, kind):
                return reason
        cause = cause.__cause__ or cause.__context__
    return None


@contextmanager
def connection_errors() -> Iterator[None]:
    """Raise the errors of a connection to the hub as ConnectionError, an OSError. Not all of them are one.

    Raises:
        ConnectionError: The connection broke inside the ``with`` block.
    """
    try:
        yield
    except _transport_error() as error:
        if isinstance(error, OSError):
            raise
        raise ConnectionError(first_line(error)) from error


def _transport_error() -> type[Exception]:
    """Base class of the errors of the HTTP client that huggingface_hub uses."""
    from huggingface_hub.errors import HfHubHTTPError

    return HfHubHTTPError.__bases__[0]
