"""From a gate's decision about units to what every stage has to compute."""

from __future__ import annotations

import numpy as np

from tilestream.engine.arrays import Mask
from tilestream.engine.lowering.program import TileProgram


def stage_masks(program: TileProgram, keep: Mask) -> list[Mask]:
    """For every stage of the program, the bins [bins_h, bins_w] in which it is run.

    ``keep``: bool [units, bins_h, bins_w]. A stage inside a unit is run where the unit is kept. Any other is
    run where something that it reads is new and something that reads it is run.
    """
    if (keep == keep[:1]).all():
        return [keep[0]] * len(program.stages)
    needed = _needed(program, keep)
    new: dict[str, Mask] = {}
    any_unit = keep.any(axis=0)
    masks = []
    for stage in program.stages:
        if stage.unit is not None:
            mask = keep[stage.unit]
        else:
            fresh = np.zeros_like(any_unit)
            for name in stage.reads:
                fresh |= new.get(name, any_unit)  # the frame itself is new wherever anything is done
            mask = fresh & needed[stage.output]
        new[stage.output] = mask
        masks.append(mask)
    return masks


def _needed(program: TileProgram, keep: Mask) -> dict[str, Mask]:
    """Per stage, the bins in which somebody reads it. Deeper stages come later, so walk backwards."""
    needed = {stage.output: np.zeros(keep.shape[1:], dtype=np.bool_) for stage in program.stages}
    needed[program.output][...] = True
    for stage in reversed(program.stages):
        wanted = needed[stage.output] if stage.unit is None else keep[stage.unit]
        for name in stage.reads:
            if name in needed:
                needed[name] |= wanted
    return needed
