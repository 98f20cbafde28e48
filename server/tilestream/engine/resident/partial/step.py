"""How a step begins: what is computed refers to its new pages, and takes along what is not."""

from __future__ import annotations

from torch import Tensor

from tilestream.engine.resident.partial.references import References
from tilestream.engine.resident.partial.shared import ResidentProgram
from tilestream.engine.resident.partial.tables import ResidentTables
from tilestream.engine.resident.partial.tile_sets import StepTiles
from tilestream.engine.resident.partial.workspace import Frames, ResidentStep


def begin_step(
    shared: ResidentProgram,
    references: dict[int, References],
    padded: tuple[int, int],
    tiles: StepTiles,
    pixels: Tensor,
) -> ResidentStep:
    """What the stages of a step work on. Doing it twice is harmless.

    ``references``: by stride. ``padded``: height and width as the network sees them. ``pixels``: uint8
    [N, 3, H, W].
    """
    program, maps = shared.program, shared.pages.maps
    moved = _moved_rows(shared, references, tiles)
    for each in references.values():
        each.place(tiles.touched)
    frames = Frames(pixels, tiles.slots, padded, shared.scale, shared.shift)
    tables = ResidentTables(references, shared.patterns, shared.kernels)
    step = ResidentStep(program, frames, tables, maps, tiles.touched, shared.dtype)
    for index, source in moved.items():
        rest, node = tiles.rest[index], program.nodes[program.stages[index].output]
        assert rest is not None
        step.begin(rest)
        shared.kernels.copy(maps[node.name], source, step.target(node))
    return step


def _moved_rows(
    shared: ResidentProgram, references: dict[int, References], tiles: StepTiles
) -> dict[int, Tensor]:
    """In bins where only some stages run: by stage, the rows of the moved values that the others keep.

    Looked up before the tiles refer to their new pages, to which these values go along.
    """
    before = ResidentTables(references, shared.patterns, shared.kernels)
    found = {}
    for index, (stage, rest) in enumerate(zip(shared.program.stages[:-1], tiles.rest[:-1], strict=True)):
        if rest is not None:
            region = (0, stage.tile, 0, stage.tile)
            found[index] = before.around(stage.stride, rest, region, "zeros").view(-1)
    return found
