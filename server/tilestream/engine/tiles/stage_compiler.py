"""From a stage of a program to the function that computes it for a set of tiles."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilestream.engine.lowering.program import (
    Convolution,
    Image,
    LoweringError,
    Node,
    Pointwise,
    Pooling,
    Stage,
    TileProgram,
    TransposedConvolution,
    Upsampling,
)
from tilestream.engine.tiles.kernels import RowProduct, TileConvolution, to_rows, to_tiles
from tilestream.engine.tiles.workspace import Kernel, Region, Workspace

# Below this many features a side, tiles are too small for a convolution kernel, and gathering every
# output's whole patch for one matrix product is faster.
_SMALL_TILE = 8
_SMALL_UPSAMPLING = 64  # outputs of a tile up to which upsampling is fastest as a matrix product


class StageCompiler:
    """Turns one stage into nested functions: each makes one node's values in one region around every tile."""

    def __init__(self, program: TileProgram, stage: Stage, device: torch.device, dtype: torch.dtype) -> None:
        self.stage, self.device, self.dtype = stage, device, dtype
        self.nodes, self.tile = program.nodes, program.tile
        self._kept = {node.name for node in program.kept} - {stage.output}

    def kernel(self, name: str, region: Region) -> Kernel:
        """What computes a node of the stage."""
        compute = self._kernel(self.nodes[name], region)
        key = (name, region)

        def once(step: Workspace) -> Tensor:
            if key not in step.values:
                step.values[key] = compute(step)
            return step.values[key]

        return once

    def source(self, name: str, region: Region, border: str) -> Kernel:
        """What brings a node that is read with a rim; ``border`` stands outside of its map."""
        node = self.nodes[name]
        if self._is_kept(name):
            return lambda step: step.gather(name, node.stride, region, border)
        if isinstance(node.operation, Image):
            if border not in ("zeros", "lowest"):
                raise LoweringError(f"node {name}: {border} padding of the frame itself is not supported")
            if border == "zeros":
                return lambda step: step.image(region)
        compute = self.kernel(name, region)
        fill = 0.0 if border == "zeros" else float("-inf")

        def filled(step: Workspace) -> Tensor:
            values = compute(step)
            step.fill_outside(values, node.stride, region, fill)
            return values

        return filled

    def _module(self, module: nn.Module) -> nn.Module:
        """A copy of one of the program's modules as it is run here."""
        return copy.deepcopy(module).to(self.device, self.dtype).eval()

    def _is_kept(self, name: str) -> bool:
        return name in self._kept

    def _kernel(self, node: Node, region: Region) -> Kernel:
        if self._is_kept(node.name):
            return self.source(node.name, region, "zeros")
        operation = node.operation
        if isinstance(operation, Image):
            return lambda step: step.image(region)
        if isinstance(operation, Convolution):
            return self._convolution(node, operation, region, relu=False)
        if isinstance(operation, Pointwise):
            return self._pointwise(node, operation, region)
        if isinstance(operation, Pooling):
            return self._pooling(node, operation, region)
        if isinstance(operation, Upsampling):
            return self._upsampling(node, operation, region)
        if isinstance(operation, TransposedConvolution):
            return self._transposed(node, operation, region)
        raise LoweringError(f"node {node.name}: cannot be run on tiles")

    def _pointwise(self, node: Node, operation: Pointwise, region: Region) -> Kernel:
        first = self.nodes[node.inputs[0]]
        if is_relu(operation) and not self._is_kept(first.name):
            if isinstance(first.operation, Convolution):
                return self._convolution(first, first.operation, region, relu=True)
            if isinstance(first.operation, Pointwise) and first.operation.function is torch.add:
                left, right = (self.kernel(name, region) for name in first.inputs)
                return lambda step: torch.add(left(step), right(step)).relu_()
        inputs = [self.kernel(name, region) for name in node.inputs]
        function = operation.function
        if operation.module is not None:
            function = self._module(operation.module)
        return lambda step: function(*[make(step) for make in inputs])

    def _convolution(self, node: Node, operation: Convolution, region: Region, relu: bool) -> Kernel:
        window, conv = operation.window, operation.module
        name = node.inputs[0]
        source = self.nodes[name]
        whole_tile = region == (0, self.tile(node.stride), 0, self.tile(node.stride))
        if conv.groups == 1 and window.is_point:
            product = RowProduct(conv, relu, self.device, self.dtype)
            make = self.kernel(name, region)
            return lambda step: to_tiles(product(to_rows(make(step))), region[1], region[3])
        small = window.y.kernel == window.x.kernel == 1 or self.tile(node.stride) < _SMALL_TILE
        if conv.groups == 1 and small and whole_tile and self._is_kept(name):
            product = RowProduct(conv, relu, self.device, self.dtype)
            side, stride = self.tile(node.stride), source.stride

            def run(step: Workspace) -> Tensor:
                return to_tiles(product(step.patches(name, stride, side, window)), side, side)

            return run
        below = (*window.y.sources(*region[:2]), *window.x.sources(*region[2:]))
        convolve = TileConvolution(conv, relu, self.device, self.dtype)
        bring = self.source(name, below, window.border)
        return lambda step: convolve(bring(step))

    def _pooling(self, node: Node, operation: Pooling, region: Region) -> Kernel:
        y, x = operation.window.y, operation.window.x
        below = (*y.sources(*region[:2]), *x.sources(*region[2:]))
        bring = self.source(node.inputs[0], below, operation.window.border)
        size, stride, dilation = (y.kernel, x.kernel), (y.stride, x.stride), (y.dilation, x.dilation)
        if operation.kind == "max":
            return lambda step: F.max_pool2d(bring(step), size, stride, 0, dilation)
        if operation.count_outside:
            return lambda step: F.avg_pool2d(bring(step), size, stride)
        if region != (0, self.tile(node.stride), 0, self.tile(node.stride)):
            raise LoweringError(
                f"node {node.name}: an average that leaves out the border cannot be read with a rim"
            )
        tile, below_stride, window = (
            self.tile(node.stride),
            self.nodes[node.inputs[0]].stride,
            operation.window,
        )

        def run(step: Workspace) -> Tensor:
            inside = step.inside_counts(below_stride, tile, window)
            total = F.avg_pool2d(bring(step), size, stride, divisor_override=1)
            return (total / inside).to(total.dtype)

        return run

    def _upsampling(self, node: Node, operation: Upsampling, region: Region) -> Kernel:
        factor, name = operation.factor, node.inputs[0]
        if factor == 1:
            return self.kernel(name, region)
        if operation.mode == "bilinear" and operation.align_corners:
            return self._aligned_corners(node, operation, region)
        rim = 1 if operation.mode == "bilinear" else 0
        spans, crops = [], []
        for start, length in (region[:2], region[2:]):
            first = start // factor - rim
            last = -(-(start + length) // factor) + rim
            spans += [first, last - first]
            crops.append(slice(start - first * factor, start - first * factor + length))
        bring = self.source(name, (spans[0], spans[1], spans[2], spans[3]), "replicate" if rim else "zeros")
        if not rim:
            return lambda step: F.interpolate(bring(step), scale_factor=factor)[:, :, crops[0], crops[1]]
        if region[1] * region[3] <= _SMALL_UPSAMPLING:
            return self._upsampling_product(bring, factor, (spans[1], spans[3]), crops)

        def run(step: Workspace) -> Tensor:
            large = F.interpolate(bring(step), scale_factor=factor, mode="bilinear", align_corners=False)
            return large[:, :, crops[0], crops[1]]

        return run

    def _upsampling_product(
        self, bring: Kernel, factor: int, size: tuple[int, int], crops: list[slice]
    ) -> Kernel:
        """Bilinear upsampling of small tiles as one product with the weights of every input."""
        below = size[0] * size[1]
        impulses = torch.eye(below).view(1, below, *size)
        weights = F.interpolate(impulses, scale_factor=factor, mode="bilinear", align_corners=False)
        weights = weights[0, :, crops[0], crops[1]]
        height, width = weights.shape[1:]
        product = weights.flatten(1).T.contiguous().to(self.device, self.dtype)

        def run(step: Workspace) -> Tensor:
            tiles = bring(step)
            rows = tiles.permute(0, 2, 3, 1).reshape(len(tiles), below, -1)
            return to_tiles(torch.matmul(product, rows).flatten(0, 1), height, width)

        return run

    def _aligned_corners(self, node: Node, operation: Upsampling, region: Region) -> Kernel:
        name, factor, tile = node.inputs[0], operation.factor, self.tile(node.stride)
        stride = self.nodes[name].stride
        if region != (0, tile, 0, tile) or not self._is_kept(name):
            raise LoweringError(
                f"node {node.name}: upsampling with aligned corners cannot be read with a rim"
            )

        def run(step: Workspace) -> Tensor:
            rows, weights = step.corners(stride, tile, factor)
            values = step.rows(name)
            weights = weights.to(values.dtype)
            total = values.index_select(0, rows[0].reshape(-1)) * weights[0].reshape(-1, 1)
            for corner in range(1, 4):
                taps = values.index_select(0, rows[corner].reshape(-1))
                total.addcmul_(taps, weights[corner].reshape(-1, 1))
            return to_tiles(total, tile, tile)

        return run

    def _transposed(self, node: Node, operation: TransposedConvolution, region: Region) -> Kernel:
        module = self._module(operation.module)
        spans, crops = [], []
        for axis, (start, length) in ((operation.y, region[:2]), (operation.x, region[2:])):
            first = -(-(start + axis.lo - axis.reach) // operation.factor)
            last = (start + length - 1 + axis.lo) // operation.factor
            spans += [first, last - first + 1]
            offset = start - (first * operation.factor - axis.lo)
            crops.append(slice(offset, offset + length))
        bring = self.source(node.inputs[0], (spans[0], spans[1], spans[2], spans[3]), "zeros")
        weight, bias = module.weight, module.bias
        options = (module.stride, 0, 0, module.groups, module.dilation)

        def run(step: Workspace) -> Tensor:
            large = F.conv_transpose2d(bring(step), weight, bias, *options)  # type: ignore[arg-type]
            return large[:, :, crops[0], crops[1]]

        return run


def is_relu(operation: Pointwise) -> bool:
    """Whether it is a ReLU and nothing else."""
    return operation.what in ("ReLU", "relu") and operation.function is not None
