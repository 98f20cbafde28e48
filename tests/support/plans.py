"""Frames and plans as an engine gets them."""

from tilestream.messages import Frame, Grant, Picture, StepPlan, UInt8Array


def frame_of(session: str, frame_id: int, pixels: UInt8Array, **fields) -> Frame:
    """A frame that is computed at its own size; ``pixels``: uint8 [H, W, 3] RGB."""
    height, width = pixels.shape[:2]
    return Frame(session, frame_id, Picture(width, height, (width, height), pixels), **fields)


def plan_of(*frames: Frame, budget: float = 1.0) -> StepPlan:
    """A step of these frames; each may compute as much."""
    return StepPlan(tuple((frame, Grant(budget)) for frame in frames))
