"""References at all strides of a program, of sessions whose frames have one size."""

from __future__ import annotations

from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.resident.partial.references import References
from tilestream.engine.resident.partial.shared import ResidentProgram


def references_of(shared: ResidentProgram, size: tuple[int, int], slots: int) -> dict[int, References]:
    """By stride, for so many slots. ``size``: height and width of frames as the network sees them."""
    return {
        stride: References(
            slots,
            (size[0] // stride, size[1] // stride),
            shared.program.tile(stride),
            shared.pages.zero_row(stride),
            shared.device,
            shared.kernels,
        )
        for stride in shared.program.strides
    }


def reference_bytes(program: TileProgram, size: tuple[int, int]) -> int:
    """What references take per slot. ``size``: height and width of frames as they come."""
    height, width = program.padded(*size)
    rows = sum((height // stride + 2) * (width // stride + 2) for stride in program.strides)
    remainders = sum((height // stride) * (width // stride) for stride in program.strides)
    return 4 * rows + 8 * remainders
