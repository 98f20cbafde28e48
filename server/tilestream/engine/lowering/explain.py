"""How a network is run on tiles, in words and numbers."""

from __future__ import annotations

from collections.abc import Iterator

from tilestream.engine.lowering.program import Stage, TileProgram, WholeMap

_ITEMSIZE = 2  # bytes of a feature in bf16 and fp16


def explain_program(program: TileProgram, height: int, width: int) -> Iterator[str]:
    """Lines of text: every kept map with its stride, tile, unit, MACs and memory, for one size of frame."""
    rows, columns = program.bins(height, width)
    bins = rows * columns
    macs = sum(stage.macs for stage in program.stages) * bins
    memory = program.bytes_per_session(height, width, _ITEMSIZE)
    bin_size, stride = program.bin_size, program.stride
    yield f"{width}x{height}: {columns}x{rows} bins of {bin_size} pixels, network stride {stride}"
    units = len(program.units)
    yield f"{units} residual blocks = {units * bins} block units; dropped: {program.dropped}"
    yield f"{macs / 1e9:.2f} GMAC and {memory / 1e6:.1f} MB of kept features (2 bytes each) per session"
    yield ""
    heading = ("kept map", "stride", "tile", "unit", "channels", "GMAC", "MB", "reads")
    table = [heading, *(_row(program, stage, bins) for stage in program.stages)]
    widths = [max(len(line[index]) for line in table) for index in range(len(heading))]
    for line in table:
        cells = [
            cell.rjust(size) if 0 < i < 7 else cell.ljust(size)
            for i, (cell, size) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _row(program: TileProgram, stage: Stage, bins: int) -> tuple[str, ...]:
    node = program.nodes[stage.output]
    final = stage.output == program.output
    memory = 0 if final else bins * stage.tile**2 * node.channels * _ITEMSIZE
    note = " (the logits, not kept)" if final else ""
    note = " (whole map)" if isinstance(node.operation, WholeMap) else note
    return (
        stage.output,
        str(stage.stride),
        f"{stage.tile}x{stage.tile}",
        "-" if stage.unit is None else str(stage.unit),
        str(node.channels),
        f"{stage.macs * bins / 1e9:.3f}",
        f"{memory / 1e6:.2f}",
        ", ".join(stage.reads) + note,
    )
