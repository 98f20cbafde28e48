"""Named bearer tokens: a file with a name and a hash per line.

Tokens are 32 random bytes, so a plain hash keeps them secret: there is nothing to guess. A name may have
several, so that a token can be replaced while the old one is still in use.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

PREFIX = "ts_"  # by which people, and what looks for secrets in repositories, know a token
_BYTES = 32
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_HEAD = "# Tokens of tilestream: NAME sha256:HASH. Made by `tilestream token add NAME`.\n"


class Tokens:
    """The tokens of a file: ``names`` by digest."""

    def __init__(self, names: Mapping[bytes, str]) -> None:
        self._names = dict(names)

    def name_of(self, token: str) -> str | None:
        """Whose token it is; None: nobody's. Takes the same time for all of one length."""
        shown = hashlib.sha256(token.encode()).digest()
        found = None
        for digest, name in self._names.items():
            if hmac.compare_digest(digest, shown):
                found = name
        return found


def parse_tokens(text: str) -> Tokens:
    """The content of a file. Raises ValueError naming the line; its text is not repeated."""
    names: dict[bytes, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or not NAME.fullmatch(words[0]) or not _HASH.fullmatch(words[1]):
            raise ValueError(f"line {number}; allowed: NAME sha256:HASH, as `tilestream token add` makes it")
        names[bytes.fromhex(words[1].partition(":")[2])] = words[0]
    return Tokens(names)


def token_names(text: str) -> list[str]:
    """The names in a file, one per token. Raises as :func:`parse_tokens`."""
    parse_tokens(text)
    lines = [line.split() for line in text.splitlines()]
    return [words[0] for words in lines if words and not words[0].startswith("#")]


def add_token(path: Path, name: str) -> str:
    """Append a new token to the file, which is made if there is none; the token is nowhere else.

    Raises ValueError for a name or a file that cannot be used, OSError.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r}; allowed: 1 to 64 of A-Z a-z 0-9 . _ @ -, the first a letter or digit")
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    parse_tokens(before)
    token = PREFIX + secrets.token_urlsafe(_BYTES)
    line = f"{name} sha256:{hashlib.sha256(token.encode()).hexdigest()}\n"
    gap = "\n" if before and not before.endswith("\n") else ""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, (gap + line if before else _HEAD + line).encode())  # at once: nobody reads half of it
    finally:
        os.close(file)
    return token


def remove_tokens(path: Path, name: str) -> int:
    """Take all tokens of a name out of the file; how many there were. Raises ValueError, OSError."""
    text = path.read_text(encoding="utf-8")
    parse_tokens(text)
    lines = text.splitlines(keepends=True)
    kept = [line for line in lines if line.split()[:1] != [name]]
    part = path.with_name(path.name + ".part")
    part.touch(mode=0o600)
    part.write_text("".join(kept), encoding="utf-8")
    part.replace(path)
    return len(lines) - len(kept)
