"""JSON web tokens of an identity provider, checked against a file with its public keys (JWKS)."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from tilestream.access.refusals import NotAuthenticated
from tilestream.access.watched_file import WatchedFile

_LEEWAY = 10.0  # seconds that clocks may differ
_MOST_CHARACTERS = 128  # of a name
_LIKE_A_SUBJECT = re.compile(r"[A-Za-z0-9.]+=")  # as names of certificates begin: nobody gets one by a token


@dataclass(frozen=True, slots=True)
class JwtRules:
    """What a token has to say. ``name_claim``: where it has the identity's name."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    name_claim: str = "sub"


class Jwts:
    """Bearer tokens that are JWTs. Raises AccessFileError for a file that cannot be used."""

    def __init__(self, keys: Path, rules: JwtRules, clock: Callable[[], float]) -> None:
        self._keys = WatchedFile(keys, _parse_keys, clock)
        self._rules = rules

    def name_of(self, token: str) -> str | None:
        """The name in a token; None for what is no JWT. Raises :class:`NotAuthenticated` for a wrong one."""
        if token.count(".") != 2:
            return None
        try:
            header = jwt.get_unverified_header(token)
            key = self._key(header)
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[header["alg"]],
                audience=self._rules.audience,
                issuer=self._rules.issuer,
                leeway=_LEEWAY,
                options={"require": ["exp", "iss", "aud"], "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError as error:
            raise NotAuthenticated(f"the token is not accepted: {_reason(error)}") from None
        return self._name(claims)

    def _key(self, header: dict[str, Any]) -> jwt.PyJWK:
        """The key that signed a token; its own word for the algorithm counts only if that is allowed."""
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in self._rules.algorithms:
            raise jwt.InvalidAlgorithmError
        keys = [key.key for key in self._keys.value() if key.is_for(str(algorithm), key_id)]
        if len(keys) != 1:
            why = "it does not say which key signed it" if keys else "its key is not known here"
            raise NotAuthenticated(f"the token is not accepted: {why}")
        return keys[0]

    def _name(self, claims: dict[str, Any]) -> str:
        name = claims.get(self._rules.name_claim)
        usable = isinstance(name, str) and name.isprintable() and 0 < len(name) <= _MOST_CHARACTERS
        if not usable or _LIKE_A_SUBJECT.match(str(name)):
            claim = self._rules.name_claim
            raise NotAuthenticated(f"the token is not accepted: its claim {claim!r} cannot be used as a name")
        return str(name)


def _parse_keys(text: str) -> list[_Key]:
    """The keys of a JWKS that can check signatures. Raises ValueError."""
    found = json.loads(text)
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise ValueError('not a JSON web key set: has to be {"keys": [...]}')
    if any(one.get("kty") == "oct" or "d" in one for one in listed):
        raise ValueError("has a secret (a shared or a private key); allowed: public keys (RSA, EC, OKP)")
    keys = []
    for one in listed:
        with contextlib.suppress(jwt.PyJWTError):  # of a kind that is not known here: not for us
            keys.append(_Key(one, jwt.PyJWK.from_dict(one)))
    if not keys:
        raise ValueError("has no key that can be used; allowed: public keys (RSA, EC, OKP)")
    return keys


@dataclass(frozen=True, slots=True)
class _Key:
    """A public key: as it was written, and as it checks signatures."""

    written: dict[str, Any]
    key: jwt.PyJWK

    def is_for(self, algorithm: str, key_id: str | None) -> bool:
        """Whether it may check a token that says so of itself."""
        if self.written.get("use", "sig") != "sig" or key_id not in (None, self.written.get("kid")):
            return False
        if self.written.get("kty") == "RSA" and "alg" not in self.written:
            return algorithm.startswith(("RS", "PS"))
        return self.key.algorithm_name == algorithm


def _reason(error: jwt.PyJWTError) -> str:
    """For the client, without anything of the token."""
    reasons = (
        (jwt.ExpiredSignatureError, "it has expired"),
        (jwt.ImmatureSignatureError, "it is not valid yet"),
        (jwt.InvalidAudienceError, "it is for another audience"),
        (jwt.InvalidIssuerError, "it is from another issuer"),
        (jwt.InvalidSignatureError, "its signature is wrong"),
        (jwt.InvalidAlgorithmError, "its algorithm is not allowed"),
        (jwt.MissingRequiredClaimError, "it lacks exp, iss or aud"),
    )
    return next((text for kind, text in reasons if isinstance(error, kind)), "it cannot be read")
