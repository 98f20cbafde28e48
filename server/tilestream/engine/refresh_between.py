"""Bins of frames between two whole ones, computed once the later one is there.

They reuse the features of the earlier one: a camera that drives forward has not yet seen in it what is new,
but the later one lacks all that has left the image since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from tilestream.engine.accounts import ComputedUnits, refreshed_account, refreshed_stats
from tilestream.engine.decide import compute
from tilestream.engine.feature_reuse import FeatureReuse
from tilestream.engine.frame import FrameInFlight
from tilestream.engine.gates.agreement import compare
from tilestream.engine.look_ahead import Refreshed, answered
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.memory.labels import LabelMap
from tilestream.engine.tiles.partial import PartialResult
from tilestream.messages import UInt8Array


class RefreshBetween:
    """Runs them as one partial pass, and writes what came of it into their answers."""

    def __init__(self, program: TileProgram, features: FeatureReuse) -> None:
        self._program, self._features = program, features

    def run(self, wanted: Sequence[Refreshed], busy: set[str]) -> None:
        """Compute the bins that are chosen; where there is no room for them, frames stay as they are."""
        pairs = [(each, self._frame(each)) for each in wanted if each.chosen.any()]
        pairs = [(each, frame) for each, frame in pairs if self._features.prepare(frame, busy)]
        if not pairs:
            return
        result = self._features.run([frame for _, frame in pairs])
        for index, (each, frame) in enumerate(pairs):
            self._take(each, frame, _believed(each, result, index, self._program.bin_size))

    def _frame(self, refreshed: Refreshed) -> FrameInFlight:
        """The frame once more, with the features of the one before it that has some, moved to it."""
        gap, index = refreshed.gap, refreshed.index
        closing, pixels = gap.closing, gap.held[index - 1].pixels
        if pixels is None:
            raise RuntimeError("a frame is to be computed of which nothing is left")
        source = max(end for end in gap.features if end < index)
        there = gap.track.displacement(index, source)
        frame = FrameInFlight(closing.frame, closing.grant, closing.spec, closing.state, pixels)
        frame.moved_features = gap.features[source].moved(there, gap.scale)
        units = len(self._program.units)
        compute(frame, self._program, np.repeat(refreshed.chosen[None], units, axis=0))
        return frame

    def _take(self, refreshed: Refreshed, frame: FrameInFlight, planes: list[UInt8Array]) -> None:
        """Of the frame's maps, these are computed: its answer says so, and its session has paid for it."""
        gap, index = refreshed.gap, refreshed.index
        computed = ComputedUnits.of(self._program, frame.keep, frame.masks)
        frame.state.credit.charge(0.0, computed.share)
        gap.features[index] = frame.features
        gap.planes[index] = [torch.from_numpy(plane) for plane in planes]
        age = np.full(refreshed.chosen.shape, index, dtype=np.float32)
        warped = refreshed.joined.planes[0]
        agreement = compare(warped, planes[0], frame.masks[-1], age, self._program.bin_size)
        outcome = gap.outcomes[index]
        stats = outcome.stats and refreshed_stats(outcome.stats, computed, agreement)
        bins = outcome.bins and refreshed_account(outcome.bins, computed)
        gap.outcomes[index] = answered(replace(outcome, stats=stats, bins=bins), planes)


def _believed(refreshed: Refreshed, result: PartialResult, index: int, bin_size: int) -> list[UInt8Array]:
    """The maps, uint8 [H, W], with what was computed where the two sides had disagreed.

    ``index``: of the frame among those of the pass.
    """
    tiles, mine = result.tiles, result.tiles.session == index
    warped, disputed = refreshed.joined.planes, refreshed.joined.disputed
    height, width = disputed.shape
    labels = LabelMap(height, width, bin_size, len(warped))
    labels.replace(*map(torch.from_numpy, warped))
    for plane, values in enumerate(result.planes[: labels.planes]):
        labels.place(plane, tiles.y[mine], tiles.x[mine], values.cpu().numpy()[mine], disputed > 0)
    return [labels.copy(plane) for plane in range(labels.planes)]
