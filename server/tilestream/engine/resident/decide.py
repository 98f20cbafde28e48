"""What is computed of the frames of a batch, as their gate or their caller wants."""

from __future__ import annotations

from tilestream.engine.arrays import Mask
from tilestream.engine.decide import in_full
from tilestream.engine.gates.gate import Gate, GateInput
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.resident.frames import ResidentFrame
from tilestream.engine.resident.observe import Observation
from tilestream.engine.tiles.masks import stage_masks


class Decider:
    """Asks a gate, on the host. ``dense_above``: see ``ReuseOptions``."""

    def __init__(self, program: TileProgram, gate: Gate, dense_above: float) -> None:
        self._program, self._gate, self._dense_above = program, gate, dense_above

    def decide(self, frames: list[ResidentFrame], seen: Observation) -> None:
        """``seen``: of these frames, all compared with the ones before them; on the host."""
        signals = seen.signals
        cuts, still, resembles = (
            tensor.tolist() for tensor in (signals.scene_cut, seen.still, seen.resembles)
        )
        distortion, age = signals.distortion.numpy(), signals.age.numpy()
        told = zip(frames, cuts, still, resembles, distortion, age, strict=True)
        for frame, frame.cut, frame.still, frame.resembles, frame.distortion, frame.age in told:
            session = frame.session
            session.since_whole += 1
            if not frame.still:
                session.averaged = 0
        decision = self._gate.decide(self._question(frames, seen))
        if self._gate.reuses_features:
            for frame, keep in zip(frames, decision.keep.numpy(), strict=True):
                self._settle(frame, keep if frame.forced is None else frame.forced)
        else:
            for frame, whole in zip(frames, decision.keep[:, 0, 0, 0].tolist(), strict=True):
                frame.whole = whole if frame.forced is None else bool(frame.forced.any())
        if decision.risk is not None:
            for frame, risk in zip(frames, decision.risk.numpy(), strict=True):
                frame.risk = risk if frame.forced is None else None

    def _settle(self, frame: ResidentFrame, keep: Mask) -> None:
        if not keep.any():
            return
        frame.whole = in_full(keep, frame.forced is not None, self._dense_above)
        if not frame.whole:
            frame.keep, frame.masks = keep, stage_masks(self._program, keep)

    def _question(self, frames: list[ResidentFrame], seen: Observation) -> GateInput:
        return GateInput.of(
            seen.signals,
            len(self._program.units),
            [(frame.grant, frame.session) for frame in frames],
            expected=seen.risk,
        )
