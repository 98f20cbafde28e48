"""The frames of a source that are sent, and the order in which their results are written."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import replace

from tilestream_client.config import HEADROOM
from tilestream_client.result import Result
from tilestream_client.sources import FrameLike, are_reordered, implied_options


class Selected:
    """Some frames of a source, which a stream has to be opened for as for all of them."""

    def __init__(self, source: Iterable[FrameLike], frames: Iterator[FrameLike]) -> None:
        self._frames = frames
        options = implied_options(source)
        self.frame_codec = options.get("frame_codec")
        self.rotation = options.get("rotation", 0)
        self.reorders = are_reordered(source)

    def __iter__(self) -> Iterator[FrameLike]:
        """The frames, once."""
        return self._frames


def as_shown(results: Iterable[Result], source: Iterable[FrameLike]) -> Iterator[Result]:
    """Results in the order in which pictures are shown, and numbered so; access units come in another one."""
    if not implied_options(source) or not are_reordered(source):
        yield from results
        return
    waiting: list[tuple[float, int, Result]] = []
    count = 0
    for result in results:
        heapq.heappush(waiting, (result.capture_time, result.frame_id, result))
        if len(waiting) > HEADROOM:
            yield replace(heapq.heappop(waiting)[2], frame_id=count)
            count += 1
    while waiting:
        yield replace(heapq.heappop(waiting)[2], frame_id=count)
        count += 1
