"""Computes label maps. What needs torch is imported only when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilestream.engine.options import EngineOptions

if TYPE_CHECKING:
    from tilestream.messages import Engine

__all__ = ["EngineOptions", "create_engine"]


def create_engine(options: EngineOptions) -> Engine:
    """Load the models and take hold of the device. Raises :class:`~tilestream.messages.EngineError`."""
    from tilestream.engine.engine import TorchEngine

    return TorchEngine(options)
