"""Who a caller is, as far as a session has to know: only the one that opened it may resume it."""

from __future__ import annotations

import hashlib

import grpc


def identity(context: grpc.aio.ServicerContext) -> bytes:
    """A digest of what a caller shows: its TLS certificate's names and its ``authorization`` metadata.

    Callers that show nothing are all the same one; the resume token is what tells these apart.
    """
    digest = hashlib.sha256()
    for name in context.peer_identities() or ():
        digest.update(b"name" + len(name).to_bytes(4, "big") + name)
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            shown = value.encode() if isinstance(value, str) else value
            digest.update(b"shown" + len(shown).to_bytes(4, "big") + shown)
    return digest.digest()
