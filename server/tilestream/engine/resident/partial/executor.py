"""Runs the stages of a program on the tiles of all slots of a step, with nothing asked of the device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from tilestream.engine.dense.labels import is_plain_upsampling, margin
from tilestream.engine.lowering.program import Node, Stage, TileProgram, WholeMap
from tilestream.engine.resident.partial.fused import MOST_TILES, StageFuser, Writer
from tilestream.engine.resident.partial.kernels import Target
from tilestream.engine.resident.partial.tile_sets import DeviceTiles, StepTiles
from tilestream.engine.resident.partial.workspace import ResidentStep
from tilestream.engine.tiles.kernels import to_rows
from tilestream.engine.tiles.stage_compiler import StageCompiler
from tilestream.engine.tiles.whole_map import WholeMapRunner


class ResidentExecutor:
    """Holds a program's weights as they are run on rows, in the working precision."""

    def __init__(self, program: TileProgram, device: torch.device, dtype: torch.dtype) -> None:
        self.program, self.device, self.dtype = program, device, dtype
        self._whole_maps = WholeMapRunner(program, device, dtype)
        *kept, last = program.stages
        self._stages = [(stage, self._writer(stage)) for stage in kept]
        self._logits = StageCompiler(program, last, device, dtype).kernel(
            last.output, (0, last.tile, 0, last.tile)
        )
        self._labels = self._fast_labels()

    @torch.inference_mode()
    def run(self, step: ResidentStep, tiles: StepTiles, want_confidence: bool) -> list[Tensor]:
        """Run every stage on its tiles; kept maps are written to the tiles' own pages.

        Returns labels and, if wanted, confidence of the last stage's tiles: uint8 [n, bin, bin], with those
        that fill up the batch.
        """
        for (stage, write), chosen in zip(self._stages, tiles.computed[:-1], strict=True):
            if chosen.count:
                step.begin(chosen)
                write(step, step.target(self.program.nodes[stage.output]))
        last = tiles.computed[-1]
        step.begin(last)
        if not last.count:
            side = self.program.bin_size
            none = torch.empty(0, side, side, dtype=torch.uint8, device=self.device)
            return [none] * (1 + want_confidence)
        if self._labels is not None and not want_confidence:
            return [self._labels(step)]
        planes = [self._by_logits(step, tiles, want_confidence) for tiles in last.parts(MOST_TILES)]
        return [torch.cat(parts) for parts in zip(*planes, strict=True)]

    def _by_logits(self, step: ResidentStep, tiles: DeviceTiles, want_confidence: bool) -> list[Tensor]:
        step.begin(tiles)
        logits = self._logits(step)
        labels = logits.max(dim=1).indices.to(torch.uint8)
        return [labels, margin(logits)] if want_confidence else [labels]

    def _writer(self, stage: Stage) -> Writer:
        node = self.program.nodes[stage.output]
        if isinstance(node.operation, WholeMap):
            return partial(self._write_whole, node, node.operation)
        return StageFuser(self.program, stage, self.device, self.dtype).writer(stage.output)

    def _write_whole(self, node: Node, operation: WholeMap, step: ResidentStep, target: Target) -> None:
        """Global context: on the whole maps of all frames, and then the tiles of the result."""
        nodes, (height, width) = self.program.nodes, step.frames.padded
        known = {name: step.whole(nodes[name]) for name in node.inputs}
        for name in operation.shapes:
            size = height // nodes[name].stride, width // nodes[name].stride
            shape = (len(step.frames.slots), nodes[name].channels, *size)
            known.setdefault(name, torch.empty(shape, device="meta"))
        result = self._whole_maps.interpret(operation.nodes, known)
        step.kernels.copy(to_rows(step.cut(result, node.stride)), None, target)

    def _fast_labels(self) -> Callable[[ResidentStep], Tensor] | None:
        """Labels without all logits, where the network ends with a bilinear upsampling of a kept map."""
        final = self.program.nodes[self.program.output]
        kept = {node.name for node in self.program.kept}
        if not is_plain_upsampling(final) or final.inputs[0] not in kept:
            return None
        source = self.program.nodes[final.inputs[0]]
        factor, side = source.stride, self.program.tile(source.stride)
        region = (-1, side + 2, -1, side + 2)

        def labels(step: ResidentStep) -> Tensor:
            table = step.tables.around(source.stride, step.tiles, region, "replicate")
            return step.kernels.labels(step.maps[source.name], table, factor, side)

        return labels
