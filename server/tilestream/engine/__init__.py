"""Computes label maps. What needs torch is imported only when it is used.

``StreamingSegmenter``, ``lower`` and ``LoweringError`` are the library: see docs/library.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tilestream.engine.options import EngineOptions

if TYPE_CHECKING:
    from tilestream.engine.lowering.lower import lower
    from tilestream.engine.lowering.program import LoweringError
    from tilestream.engine.streaming import StreamingSegmenter
    from tilestream.messages import Engine

__all__ = ["ENGINE_MODULE", "EngineOptions", "LoweringError", "StreamingSegmenter", "create_engine", "lower"]

ENGINE_MODULE = "tilestream.engine_process.warm"
"""To be imported where engines' processes are forked from: most of what :func:`create_engine` waits for."""

_LAZY = {"StreamingSegmenter": "streaming", "lower": "lowering.lower", "LoweringError": "lowering.program"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"tilestream.engine.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def create_engine(options: EngineOptions) -> Engine:
    """Load the models and take hold of the device. Raises :class:`~tilestream.messages.EngineError`."""
    from tilestream.engine.engine import TorchEngine
    from tilestream.messages import EngineError

    try:
        return TorchEngine(options)
    except OSError as error:
        raise EngineError(f"the system refused what the engine needs: {error}") from error
