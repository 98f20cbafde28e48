"""The scheduler: takes decoded frames, hands out plans for the engine.

Fairness is start-time fair queueing. A virtual clock counts service; each session's next frame
has a start tag on that clock, which moves on by 1 / weight with every frame that is computed. The
smallest tags are served first. A session that comes back from a pause starts at the present, so
it can neither be starved nor catch up on what it did not ask for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from tilestream.messages import FrameJob, FrameKind, StepPlan, UInt8Array


@dataclass(frozen=True, slots=True, eq=False)
class ReadyFrame:
    """A decoded frame that waits for its turn. ``image``: uint8 [H, W, 3] at compute size.

    ``budget``: the share (0..1] of block units it may compute.
    """

    session_id: str
    frame_id: int
    image: UInt8Array
    force_key: bool = False
    budget: float = 1.0


@dataclass(slots=True)
class _Queue:
    """A session as the scheduler sees it."""

    number: int  # breaks ties by age
    weight: float
    tag: float = 0.0
    frames: deque[ReadyFrame] = field(default_factory=deque)


class Scheduler:
    """Decides what runs in a step. Not thread-safe: the engine loop holds a lock around it.

    ``max_batch``: most frames (each of another session) in one step.
    """

    def __init__(self, max_batch: int) -> None:
        if max_batch < 1:
            raise ValueError(f"max_batch: {max_batch}; allowed: at least 1")
        self.max_batch = max_batch
        self._queues: dict[str, _Queue] = {}
        self._virtual_now = 0.0
        self._added = 0

    def add(self, session_id: str, weight: float = 1.0) -> None:
        """Know a session. ``weight``: its share relative to the others, above 0."""
        if weight <= 0:
            raise ValueError(f"weight: {weight}; allowed: above 0")
        self._added += 1
        self._queues[session_id] = _Queue(self._added, weight, self._virtual_now)

    def remove(self, session_id: str) -> None:
        """Forget a session and its frames. Idempotent."""
        self._queues.pop(session_id, None)

    def offer(self, frame: ReadyFrame) -> bool:
        """A frame is ready; frames of a session come in order. False if its session is not known."""
        queue = self._queues.get(frame.session_id)
        if queue is None:
            return False
        if not queue.frames:
            queue.tag = max(queue.tag, self._virtual_now)
        queue.frames.append(frame)
        return True

    def withdraw(self, session_id: str, frame_id: int) -> bool:
        """Take a frame back. False if it is not waiting here: a plan has it, or it never came."""
        queue = self._queues.get(session_id)
        if queue is None:
            return False
        kept = deque(frame for frame in queue.frames if frame.frame_id != frame_id)
        found = len(kept) < len(queue.frames)
        queue.frames = kept
        return found

    def waiting(self) -> int:
        """Frames that wait for their turn."""
        return sum(len(queue.frames) for queue in self._queues.values())

    def schedule(self, now: float) -> StepPlan:
        """The next step: at most ``max_batch`` frames, at most one of a session. Empty if none waits.

        ``now``: monotonic seconds.
        """
        ready = [queue for queue in self._queues.values() if queue.frames]
        ready.sort(key=lambda queue: (queue.tag, queue.number))
        return StepPlan(tuple(self._take(ready[: self.max_batch])))

    def _take(self, chosen: Iterable[_Queue]) -> Iterable[FrameJob]:
        for queue in chosen:
            frame = queue.frames.popleft()
            self._virtual_now = max(self._virtual_now, queue.tag)
            queue.tag += 1.0 / queue.weight
            kind = FrameKind.KEY if frame.force_key else FrameKind.PARTIAL
            yield FrameJob(frame.session_id, frame.frame_id, frame.image, kind, frame.budget)
