"""Outcomes of frames; what whole ones cost, and those of which nothing is computed, is reckoned once."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tilestream.engine.accounts import ComputedUnits, bin_account, frame_stats
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.resident.frames import ResidentFrame
from tilestream.engine.tiles.masks import stage_masks
from tilestream.messages import Outcome

_PREPARED = 128  # sizes of frames, whole ones and others


class Accounts:
    """Writes outcomes. ``program``: of the model whose frames these are."""

    def __init__(self, program: TileProgram) -> None:
        self._program = program
        self._all_or_nothing = lru_cache(maxsize=_PREPARED)(self._make)

    def computed(self, frame: ResidentFrame) -> ComputedUnits:
        """What was computed of a frame."""
        if frame.partial and frame.keep is not None:
            return ComputedUnits.of(self._program, frame.keep, frame.masks)
        return self._all_or_nothing(frame.session.size, frame.whole)

    def outcome(self, frame: ResidentFrame, computed: ComputedUnits) -> Outcome:
        """The answer to a frame that is done."""
        distortion, age = (None, None) if frame.whole else (frame.distortion, frame.age)
        stats = frame_stats(
            computed,
            whole=frame.whole,
            budget=frame.grant.budget,
            distortion=distortion,
            agreement=frame.agreement,
            seconds=frame.seconds,
        )
        bins = None
        if frame.spec.bins or frame.frame.bins:
            bins = bin_account(self._program, frame.session.size, computed, distortion, age)
        return Outcome(
            frame.frame.session_id,
            frame.frame.frame_id,
            frame.labels,
            stats,
            confidence=frame.confidence,
            bins=bins,
        )

    def _make(self, size: tuple[int, int], whole: bool) -> ComputedUnits:
        keep = np.full((len(self._program.units), *self._program.bins(*size)), whole, dtype=np.bool_)
        computed = ComputedUnits.of(self._program, keep, stage_masks(self._program, keep))
        computed.bins.flags.writeable = False  # many outcomes will have it
        return computed
