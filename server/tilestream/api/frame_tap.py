"""What may look at the frames of a session as they pass, for people who want to see them."""

from __future__ import annotations

from typing import Protocol

from tilestream.label_runs import LabelRuns
from tilestream.messages import Outcome, Picture, UInt8Array


class FrameTap(Protocol):
    """Told of all frames of a session while it is there; keeps what it wants of them. On the event loop."""

    def accepted(self, frame_id: int, data: bytes) -> None:
        """A frame was taken in, as the camera sent it."""

    def submitted(self, frame_id: int, picture: Picture) -> bool:
        """It was decoded and goes to the engine. True: its bins are wanted, whatever the session asks for."""

    def computed(self, outcome: Outcome, labels: UInt8Array | LabelRuns, size: tuple[int, int]) -> None:
        """It has labels, and gets a mask of (width, height) from them."""

    def closed(self) -> None:
        """The session is over."""
