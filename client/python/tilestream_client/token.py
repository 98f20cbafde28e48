"""What goes with every call as metadata, checked when a client is made: gRPC only says "Invalid metadata"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tilestream_client.errors import FieldError, InvalidConfig

Metadata = Sequence[tuple[str, str | bytes]]

_KEY = re.compile(r"[0-9a-z_.-]+")
_UNFIT = re.compile(r"[^\x20-\x7e]")


def checked_token(token: str) -> str:
    """A token without white space at its ends, as files and variables have. Raises InvalidConfig.

    What is wrong is told by its position, never by what is there: a token is a secret, and errors are logged.
    """
    stripped = token.strip()
    if token and not stripped:
        raise _refused("token", "it is nothing but white space")
    unfit = _UNFIT.search(stripped)
    if unfit is not None:
        kind = "white space" if unfit[0].isspace() else "a control or non-ASCII character"
        position = len(token) - len(token.lstrip()) + unfit.start() + 1
        raise _refused(
            "token", f"character {position} of {len(token)} is {kind}; allowed are printable ASCII characters"
        )
    return stripped


def checked_metadata(metadata: Metadata) -> tuple[tuple[str, str | bytes], ...]:
    """Pairs that gRPC takes. Raises InvalidConfig, which names the key and what is wrong, not the value."""
    for key, value in metadata:
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise _refused("metadata", f"the key {key!r} may have lower-case letters, digits, - _ . only")
        if key.endswith("-bin"):
            continue
        if not isinstance(value, str):
            raise _refused("metadata", f"the value of {key} has to be text; for bytes end the key in -bin")
        unfit = _UNFIT.search(value)
        if unfit is not None:
            raise _refused(
                "metadata", f"character {unfit.start() + 1} of the value of {key} is no printable ASCII"
            )
    return tuple(metadata)


def _refused(field: str, problem: str) -> InvalidConfig:
    return InvalidConfig(f"{field}: {problem}", fields=(FieldError(field, problem),))
