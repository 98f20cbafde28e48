"""What is computed of the frames of a batch: all or nothing, as their gate or their caller wants."""

from __future__ import annotations

import numpy as np
import torch

from tilestream.engine.gates.gate import Gate, GateInput
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.resident.frames import ResidentFrame
from tilestream.engine.resident.observe import Observation


class Decider:
    """Asks a gate, on the host."""

    def __init__(self, program: TileProgram, gate: Gate) -> None:
        self._program, self._gate = program, gate

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
        whole = decision.keep[:, 0, 0, 0].tolist()  # all or nothing
        risk = None if decision.risk is None else decision.risk.numpy()
        for index, frame in enumerate(frames):
            frame.whole = whole[index] if frame.forced is None else frame.forced
            if frame.forced is None and risk is not None:
                frame.risk = risk[index]

    def _question(self, frames: list[ResidentFrame], seen: Observation) -> GateInput:
        figures = np.array(
            [
                (
                    frame.grant.budget,
                    frame.session.credit.with_budget(frame.grant.budget),
                    frame.grant.limit,
                    frame.session.since_whole,
                    frame.session.averaged,
                    frame.session.calibration.scale,
                )
                for frame in frames
            ],
            dtype=np.float64,
        )
        budget, credit, limit, since_whole, averaged, risk_scale = torch.from_numpy(figures).unbind(dim=1)
        return GateInput(
            seen.signals,
            len(self._program.units),
            budget=budget,
            credit=credit,
            limit=limit,
            since_whole=since_whole,
            averaged=averaged,
            risk_scale=risk_scale.float(),
            expected=seen.risk,
        )
