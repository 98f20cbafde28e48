"""What lets callers in, as the server's settings ask for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tilestream.access.admission import Admission
from tilestream.access.authenticator import Authenticator, Credentials
from tilestream.access.policy import Policies, parse_policies
from tilestream.access.tokens import parse_tokens
from tilestream.access.watched_file import WatchedFile
from tilestream.config import Settings

Clock = Callable[[], float]


class _TokenFile:
    """The tokens of a file as it is now."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._tokens = WatchedFile(path, parse_tokens, clock)

    def name_of(self, token: str) -> str | None:
        """Whose token it is; None: not in the file."""
        return self._tokens.value().name_of(token)


def make_authenticator(settings: Settings, clock: Clock) -> Authenticator:
    """Raises AccessFileError for a file that cannot be used. ``clock``: monotonic seconds."""
    kinds: list[Credentials] = []
    if settings.token_file is not None:
        kinds.append(_TokenFile(settings.token_file, clock))
    if settings.jwks_file is not None:
        from tilestream.access.jwts import JwtRules, Jwts  # it needs a library for signatures

        rules = JwtRules(
            settings.jwt_issuer, settings.jwt_audience, settings.jwt_algorithms, settings.jwt_name_claim
        )
        kinds.append(Jwts(settings.jwks_file, rules, clock))
    return Authenticator(kinds, anonymous=settings.lets_strangers_in)


def make_admission(settings: Settings, clock: Clock) -> Admission:
    """Raises AccessFileError for a file that cannot be used. ``clock``: monotonic seconds."""
    policies: Callable[[], Policies] = Policies
    if settings.policy_file is not None:
        policies = WatchedFile(settings.policy_file, parse_policies, clock).value
    return Admission(settings, policies, clock)
