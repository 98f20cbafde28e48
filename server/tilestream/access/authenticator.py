"""From what a caller shows to the name of its identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tilestream.access.refusals import NotAuthenticated

_HOW = "send 'authorization: Bearer TOKEN'"
MAX_CREDENTIALS = 8192  # characters


class Credentials(Protocol):
    """A kind of bearer token."""

    def name_of(self, token: str) -> str | None:
        """Whose token it is; None: not of this kind. Raises NotAuthenticated for a wrong one of its kind."""


class Authenticator:
    """Names callers. ``kinds``: of bearer tokens that are known, the first that knows a token decides.

    ``anonymous``: callers that show nothing are let in without a name. Where no kind is known, tokens are not
    looked at.
    """

    def __init__(self, kinds: Sequence[Credentials], *, anonymous: bool) -> None:
        self._kinds, self._anonymous = tuple(kinds), anonymous

    def identify(self, authorization: Sequence[str], subject: str | None) -> str:
        """The identity's name, empty for an anonymous caller. Raises :class:`NotAuthenticated`.

        ``authorization``: all metadata of that name. ``subject``: of the caller's certificate, which the
        handshake has checked. A token comes first: a proxy's certificate says less than what it passes on.
        """
        if authorization and self._kinds:
            return self._bearer(authorization)
        if subject:
            return subject
        if self._anonymous:
            return ""
        raise NotAuthenticated(f"no credentials: {_HOW if self._kinds else 'show a client certificate'}")

    def _bearer(self, authorization: Sequence[str]) -> str:
        if len(authorization) > 1:
            raise NotAuthenticated(f"authorization was sent {len(authorization)} times: {_HOW} once")
        scheme, _, token = authorization[0].partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > MAX_CREDENTIALS:
            raise NotAuthenticated(f"authorization is not a bearer token: {_HOW}")
        for kind in self._kinds:
            name = kind.name_of(token)
            if name is not None:
                return name
        raise NotAuthenticated("the token is not known here: mistyped, of another server, or removed")
