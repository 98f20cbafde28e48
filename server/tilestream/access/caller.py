"""Who made a call."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """Who made a call, and over which connection.

    ``identity``: its name; empty for an anonymous caller. ``connection``: the peer's address and port.
    ``shown``: digest of the credentials of an anonymous caller: what this server does not check still tells
    whose a session is.
    """

    identity: str
    connection: str
    shown: bytes = b""

    @property
    def holder(self) -> str:
        """Whom limits are counted for: the identity, or the connection of an anonymous caller.

        Never the address: a fleet sits behind one.
        """
        return f"identity {self.identity}" if self.identity else f"connection {self.connection}"

    @property
    def owner(self) -> bytes:
        """A digest of who may resume its sessions, the same over all its connections."""
        if self.identity:
            return hashlib.sha256(b"identity" + self.identity.encode()).digest()
        return self.shown
