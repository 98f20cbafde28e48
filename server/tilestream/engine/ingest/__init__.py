"""From the pictures of a step to pixels on the device: decoded there where it can, else uploaded."""

from __future__ import annotations

from tilestream.engine.ingest.ingest import Ingest

__all__ = ["Ingest"]
