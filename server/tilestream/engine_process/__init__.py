"""An engine in a process of its own: the same interface, its frames and masks through shared memory.

No torch and no gRPC, but for ``warm``, which only the processes' ancestor imports: what a process computes
with is made by a function that it is handed.
"""

from __future__ import annotations

from tilestream.engine_process.count import count_engines
from tilestream.engine_process.handle import EngineProcess, preload
from tilestream.engine_process.process_engine import ProcessEngine

__all__ = ["EngineProcess", "ProcessEngine", "count_engines", "preload"]
