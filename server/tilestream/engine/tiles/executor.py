"""Runs the stages of a :class:`TileProgram` on packed tiles of all sessions of a step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tilestream.engine.dense.labels import is_plain_upsampling, margin, upsampled_labels
from tilestream.engine.device import upload
from tilestream.engine.lowering.program import Stage, TileProgram, WholeMap
from tilestream.engine.tiles.kernels import to_rows
from tilestream.engine.tiles.stage_compiler import StageCompiler
from tilestream.engine.tiles.tables import TileSet
from tilestream.engine.tiles.whole_map import WholeMapRunner
from tilestream.engine.tiles.workspace import Step


class TileExecutor:
    """Holds a program's weights as they are run on tiles, in the working precision."""

    def __init__(self, program: TileProgram, device: torch.device, dtype: torch.dtype) -> None:
        self.program, self.device, self.dtype = program, device, dtype
        self._whole_maps = WholeMapRunner(program, device, dtype)
        self._stages = [(stage, self._compile(stage)) for stage in program.stages]
        self._label_kernel = self._fast_labels()

    @torch.inference_mode()
    def run(
        self,
        step: Step,
        tiles: list[TileSet],
        pages: dict[int, dict[int, npt.NDArray[np.int64]]],
        want_confidence: bool = False,
    ) -> list[Tensor]:
        """Run every stage on its tiles; kept maps are written to their pages.

        ``tiles``: one set per stage. ``pages``: by stride, by ``id`` of the set: the page of each tile.
        Returns labels and, if wanted, confidence of the last stage's tiles: uint8 [n, bin, bin], still on
        the device.
        """
        targets = {
            (stride, key): upload(own, self.device)
            for stride, sets in pages.items()
            for key, own in sets.items()
        }
        for (stage, kernel), chosen in zip(self._stages[:-1], tiles[:-1], strict=True):
            if not chosen.count:
                continue
            step.tiles = chosen
            step.values.clear()
            result = kernel(step)
            values = to_rows(result).view(-1, stage.tile**2 * result.shape[1])[: chosen.count]
            step.store.pages[stage.output].index_copy_(0, targets[stage.stride, id(chosen)], values)
        step.tiles = tiles[-1]
        step.values.clear()
        return self._labels(step, want_confidence)

    def _labels(self, step: Step, want_confidence: bool) -> list[Tensor]:
        """Labels of the tiles, and how certain they are."""
        count = step.tiles.count
        if not count:
            shape = (0, self.program.bin_size, self.program.bin_size)
            none = torch.empty(shape, dtype=torch.uint8, device=self.device)
            return [none] * (1 + want_confidence)
        if self._label_kernel is not None and not want_confidence:
            return [self._label_kernel(step)[:count]]
        logits = self._stages[-1][1](step)[:count]
        labels = logits.max(dim=1).indices.to(torch.uint8)
        return [labels, margin(logits)] if want_confidence else [labels]

    def _fast_labels(self) -> Callable[[Step], Tensor] | None:
        """Labels without all logits, where the network ends with a bilinear upsampling of a kept map.

        On CPUs only: how many positions have to be interpolated is not known to the host beforehand.
        """
        final = self.program.nodes[self.program.output]
        if (
            self.device.type != "cpu"
            or not is_plain_upsampling(final)
            or final.inputs[0] not in {node.name for node in self.program.kept}
        ):
            return None
        source = self.program.nodes[final.inputs[0]]
        factor, side = source.stride, self.program.tile(source.stride)
        region = (-1, side + 2, -1, side + 2)
        return lambda step: upsampled_labels(step.gather(source.name, factor, region, "replicate"), factor)

    def _compile(self, stage: Stage) -> Callable[[Step], Tensor]:
        node = self.program.nodes[stage.output]
        if isinstance(node.operation, WholeMap):
            return self._whole_maps.kernel(node, node.operation)
        compiler = StageCompiler(self.program, stage, self.device, self.dtype)
        return compiler.kernel(stage.output, (0, stage.tile, 0, stage.tile))
