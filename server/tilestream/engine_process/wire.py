"""What goes through the pipe between a server and the process of an engine: small pickled tuples and these.

The process says first what it is: (:class:`Reply`, (EngineInfo, EngineReport)). A request is (verb,
argument), its reply (:class:`Reply`, value). Both processes run the same code, so there are no versions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from tilestream.engine_process.arena import Arena, aligned
from tilestream.messages import DropReason, EngineReport, Failure, FrameJob, Outcome

_NO_PIXELS = np.zeros((0, 0, 3), dtype=np.uint8)


class Reply(Enum):
    """How a request ended."""

    OK = "ok"
    ERROR = "error"  # an EngineError; the value is its text, fit for a client
    FAULT = "fault"  # anything else; the value is a short text, the trace is in the log


@dataclass(frozen=True, slots=True)
class PlacedJob:
    """A frame whose pixels lie in the arena. Its planes (labels, confidence) are to be put beside them.

    ``bare``: all of the job but its image.
    """

    bare: FrameJob
    shape: tuple[int, ...]  # of the image: H, W, 3
    image_at: int  # byte offsets
    planes_at: int

    def job(self, arena: Arena) -> FrameJob:
        """The frame, its image a view of the arena."""
        return replace(self.bare, image=arena.array(self.image_at, self.shape))


@dataclass(frozen=True, slots=True)
class PlacedOutcome:
    """An outcome; ``planes`` of 0..2 planes [H, W] lie where its job said: labels, then confidence."""

    outcome: Outcome
    planes: int = 0


@dataclass(frozen=True, slots=True)
class StepReply:
    """What a step brought."""

    outcomes: tuple[PlacedOutcome, ...]
    report: EngineReport


def place_jobs(jobs: Iterable[FrameJob], arena: Arena) -> tuple[PlacedJob, ...]:
    """Copy the images of a step into the arena and set room for its planes aside."""
    placed, at = [], 0
    for job in jobs:
        planes_at = aligned(at + job.image.nbytes)
        placed.append(PlacedJob(replace(job, image=_NO_PIXELS), job.image.shape, at, planes_at))
        at = aligned(planes_at + 2 * _plane_bytes(placed[-1]))
    arena.reserve(at)
    for job, place in zip(jobs, placed, strict=True):
        arena.array(place.image_at, place.shape)[...] = job.image
    return tuple(placed)


def place_outcome(outcome: Outcome, place: PlacedJob, arena: Arena) -> PlacedOutcome:
    """Put the planes of an outcome where its job wants them."""
    planes = [plane for plane in (outcome.labels, outcome.confidence) if plane is not None]
    if outcome.labels is None or any(plane.shape != place.shape[:2] for plane in planes):
        another_size = Failure.dropped(
            DropReason.ENGINE_ERROR, "the engine gave labels of another size than the frame's"
        )
        failure = outcome.failure or another_size
        return PlacedOutcome(replace(outcome, labels=None, confidence=None, failure=failure))
    for index, plane in enumerate(planes):
        arena.array(place.planes_at + index * _plane_bytes(place), place.shape[:2])[...] = plane
    return PlacedOutcome(replace(outcome, labels=None, confidence=None), len(planes))


def take_outcome(placed: PlacedOutcome, place: PlacedJob, arena: Arena) -> Outcome:
    """The outcome with copies of its planes: the arena is the next step's."""
    planes = [
        arena.array(place.planes_at + index * _plane_bytes(place), place.shape[:2]).copy()
        for index in range(placed.planes)
    ]
    labels, confidence = (*planes, None, None)[:2]
    return replace(placed.outcome, labels=labels, confidence=confidence)


def _plane_bytes(place: PlacedJob) -> int:
    return place.shape[0] * place.shape[1]
