"""From a stage of a program to operations on rows, as few as there can be.

Convolutions between kept maps read through a table, add what is added to them, and write to the tiles' own
pages in one go. What is of another kind is computed by the compiled stage and copied there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from tilestream.engine.lowering.program import Convolution, Node, Pointwise, Stage, TileProgram, Upsampling
from tilestream.engine.resident.partial.kernels import Target, Weights
from tilestream.engine.resident.partial.workspace import ResidentStep
from tilestream.engine.tiles.kernels import to_rows
from tilestream.engine.tiles.stage_compiler import StageCompiler, is_relu

MOST_TILES = 4096
"""Tiles that are gathered with their surroundings at a time, so that they do not fill the memory."""

Writer = Callable[[ResidentStep, Target], None]
"""Puts a node's values, of the step's tiles, into a target."""

ConvolutionWriter = Callable[[ResidentStep, Target, Target | None, bool], None]
"""The same, with a residual that is added and whether a ReLU follows that."""


class StageFuser:
    """Turns one stage into a :data:`Writer`."""

    def __init__(self, program: TileProgram, stage: Stage, device: torch.device, dtype: torch.dtype) -> None:
        self._nodes, self._tile, self._stride = program.nodes, stage.tile, stage.stride
        self._kept = {node.name for node in program.kept} - {stage.output}
        self._compiler = StageCompiler(program, stage, device, dtype)
        self._device, self._dtype = device, dtype

    def writer(self, name: str) -> Writer:
        """What computes a node of the stage."""
        node = self._nodes[name]
        if name in self._kept:
            return partial(_copy_own, node)
        relu = self._relu_of(node)
        if relu is not None and self._adds(relu):
            return self._sum(node, relu, relu_after=True)
        if self._adds(node):
            return self._sum(node, node, relu_after=False)
        convolve = self._convolution(node)
        if convolve is not None:
            return lambda step, target: convolve(step, target, None, False)
        return self._upsampling(node) or self._compiled(node)

    def _relu_of(self, node: Node) -> Node | None:
        """What a ReLU is of, where that is computed in this stage."""
        if isinstance(node.operation, Pointwise) and is_relu(node.operation):
            source = self._nodes[node.inputs[0]]
            return None if source.name in self._kept else source
        return None

    def _adds(self, node: Node) -> bool:
        if not isinstance(node.operation, Pointwise) or node.operation.function is not torch.add:
            return False
        sides = [self._nodes[name] for name in node.inputs]
        return len(sides) == 2 and all(s.channels == node.channels and s.stride == node.stride for s in sides)

    def _sum(self, node: Node, addition: Node, relu_after: bool) -> Writer:
        """A sum of which one side is a convolution, which then adds the other; a kept one as it lies."""
        sides = [self._nodes[name] for name in addition.inputs]
        pairs = [(side, other) for side, other in (sides, sides[::-1]) if side.name not in self._kept]
        # best where the other side lies ready in a kept map
        for side, other in sorted(pairs, key=lambda pair: pair[1].name not in self._kept):
            convolve = self._convolution(side)
            if convolve is not None:
                return self._added(convolve, other, relu_after)
        return self._compiled(node)

    def _added(self, convolve: ConvolutionWriter, other: Node, relu_after: bool) -> Writer:
        if other.name in self._kept:
            return lambda step, target: convolve(step, target, step.target(other), relu_after)
        below = self.writer(other.name)

        def write(step: ResidentStep, target: Target) -> None:
            below(step, target)
            convolve(step, target, target, relu_after)

        return write

    def _convolution(self, node: Node) -> ConvolutionWriter | None:
        """A convolution of rows, and the ReLU behind it if ``node`` is one; None for other kinds."""
        source = self._relu_of(node)
        relu, node = source is not None, source or node
        operation = node.operation
        if not isinstance(operation, Convolution) or operation.module.groups != 1:
            return None
        below, window, weights = self._nodes[node.inputs[0]], operation.window, self._weights(operation)
        if below.name not in self._kept:
            return self._point(below, weights, relu) if window.is_point else None

        def convolve(step: ResidentStep, target: Target, residual: Target | None, relu_after: bool) -> None:
            if window.is_point:
                table = step.tables.own(below.stride, step.tiles)
            else:
                table = step.tables.patches(below.stride, step.tiles, self._tile, window)
            rows = step.maps[below.name]
            step.kernels.convolve(rows, table, weights, target, relu, residual, relu_after)

        return convolve

    def _point(self, below: Node, weights: Weights, relu: bool) -> ConvolutionWriter:
        """A 1x1 convolution of what this stage computes."""
        write, tile, channels = self.writer(below.name), self._tile, below.channels

        def convolve(step: ResidentStep, target: Target, residual: Target | None, relu_after: bool) -> None:
            rows = target.rows.new_empty(step.tiles.padded * tile * tile, channels)
            write(step, Target(rows, None))
            step.kernels.convolve(rows, None, weights, target, relu, residual, relu_after)

        return convolve

    def _weights(self, operation: Convolution) -> Weights:
        conv = operation.module
        weight = conv.weight.detach().permute(2, 3, 1, 0).flatten(0, 1).contiguous()
        bias = weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
        return Weights(weight.to(self._device, self._dtype), bias.to(self._device, torch.float32))

    def _upsampling(self, node: Node) -> Writer | None:
        operation, name = node.operation, node.inputs[0]
        if (
            not isinstance(operation, Upsampling)
            or (operation.mode, operation.align_corners) != ("bilinear", False)
            or operation.factor == 1
            or name not in self._kept
        ):
            return None
        stride, factor = self._nodes[name].stride, operation.factor

        def write(step: ResidentStep, target: Target) -> None:
            table, weights = step.tables.corners(stride, step.tiles, factor)
            step.kernels.blend(step.maps[name], table, weights, target)

        return write

    def _compiled(self, node: Node) -> Writer:
        kernel = self._compiler.kernel(node.name, (0, self._tile, 0, self._tile))

        def write(step: ResidentStep, target: Target) -> None:
            everything, first = step.tiles, 0
            for tiles in everything.parts(MOST_TILES):
                step.begin(tiles)
                rows = to_rows(kernel(step))
                step.kernels.copy(rows, None, target.part(first, len(rows)))
                first += len(rows)
            step.begin(everything)

        return write


def _copy_own(node: Node, step: ResidentStep, target: Target) -> None:
    own = step.target(node)
    step.kernels.copy(own.rows, own.index, target)
