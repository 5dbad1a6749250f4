"""Names of the folders of prompts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

SLUG_LENGTH = 40
HASH_DIGITS, LABEL_DIGITS = 32, 8  # of the hash, in hexadecimal


def prompt_slug(prompt: str) -> str:
    """Return a folder name for any prompt: its first letters and digits, and a hash that separates equal beginnings."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:SLUG_LENGTH].strip("-") or "prompt"
    return f"{words}-{hashlib.blake2b(prompt.encode(), digest_size=HASH_DIGITS // 2).hexdigest()}"


def prompt_label(prompt: str) -> str:
    """Return a short form of the folder's name for charts. Two prompts that share it would share a chart, no more."""
    return prompt_slug(prompt)[: LABEL_DIGITS - HASH_DIGITS]


def require_distinct_folders(prompts: Iterable[str]) -> None:
    """Check that no two prompts share a folder.

    Raises:
        ValueError: Two prompts do. The message names them.
    """
    folders = dict[str, str]()
    for prompt in prompts:
        if folders.setdefault(prompt_slug(prompt), prompt) != prompt:
            raise ValueError(
                f"the prompts {folders[prompt_slug(prompt)]!r} and {prompt!r} share the folder {prompt_slug(prompt)}: "
                "leave one out"
            )
