"""The access units that a new decoder would need: those since the key unit before the oldest open frame."""

from __future__ import annotations

from collections import deque

from tilestream_client.access_units import is_key_unit
from tilestream_client.config import FrameCodec
from tilestream_client.v1 import segmentation_pb2 as pb

MAX_BYTES = 64 << 20
"""What is kept. Of a longer group of pictures nothing is, and a new session waits for the next key unit."""


class Replay:
    """Units that were sent, in order. For JPEG nothing is kept."""

    def __init__(self, codec: FrameCodec) -> None:
        self._codec = codec
        self._kept: deque[pb.StreamSegmentRequest] = deque()
        self._keys: deque[int] = deque()  # frame_ids of the key units among them
        self._bytes = 0

    def sent(self, request: pb.StreamSegmentRequest, oldest: int) -> None:
        """Keep a unit. ``oldest``: frame_id of the oldest one without an answer."""
        if self._codec is FrameCodec.JPEG:
            return
        if is_key_unit(self._codec, request.frame.data):
            self._keys.append(request.frame.frame_id)
        self._kept.append(request)
        self._bytes += len(request.frame.data)
        self._forget_answered(oldest)
        if self._bytes > MAX_BYTES:
            self._kept.clear()
            self._keys.clear()
            self._bytes = 0

    def before(self, oldest: int, ids: set[int]) -> list[pb.StreamSegmentRequest]:
        """What to send again for the decoder alone: all from a key unit on but these.

        ``oldest``: as above, or the next one where all have their answers.
        """
        self._forget_answered(oldest)
        again = []
        for frame in (request.frame for request in self._kept):
            if self._keys and frame.frame_id >= self._keys[0] and frame.frame_id not in ids:
                copy = pb.Frame(frame_id=frame.frame_id, data=frame.data, decode_only=True)
                again.append(pb.StreamSegmentRequest(frame=copy))
        return again

    def _forget_answered(self, oldest: int) -> None:
        while len(self._keys) > 1 and self._keys[1] <= oldest:
            self._keys.popleft()
            while self._kept[0].frame.frame_id < self._keys[0]:
                self._bytes -= len(self._kept.popleft().frame.data)
