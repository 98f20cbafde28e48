"""From an ordinary nn.Module to a :class:`TileProgram`: trace, fold, find strides, units and stages."""

from __future__ import annotations

import copy
import math

import torch
from torch import fx, nn

from tilestream.engine.lowering.classify import Traced, classify
from tilestream.engine.lowering.program import (
    NOT_OF_A_MODEL,
    Convolution,
    Image,
    LoweringError,
    Node,
    Pointwise,
    Pooling,
    Stage,
    TileProgram,
    Unit,
    WholeMap,
)
from tilestream.engine.lowering.trace import trace
from tilestream.engine.lowering.units import find_units

_REFERENCE = 512  # divides the sides of the frames that shapes are followed with; large ones cost nothing


def lower(module: nn.Module, bin_size: int = 64) -> TileProgram:
    """Make a network runnable on tiles.

    ``module``: float [N, 3, H, W] -> logits [N, classes, H, W] for every H and W that are multiples of its
    stride. ``bin_size``: pixels; a power of two. Raises :class:`LoweringError`, naming the node, for what
    cannot be run on tiles.
    """
    if bin_size < 8 or bin_size & (bin_size - 1):
        raise LoweringError(f"bin_size {bin_size}: has to be a power of two, at least 8")
    graph = trace(module)
    declared = getattr(module, "stride", 1)
    stride = declared if isinstance(declared, int) else 1  # single layers have one of another kind
    _follow_shapes(graph, stride)
    traced = classify(graph)
    nodes = traced.nodes
    for node in nodes.values():
        if bin_size % node.stride:
            raise LoweringError(
                f"node {node.name}: its stride {node.stride} does not divide bins of {bin_size} pixels"
            )
    stride = math.lcm(stride, *(node.stride for node in nodes.values()))
    if bin_size % stride:
        raise LoweringError(
            f"{type(module).__name__}: frames have to be multiples of its stride {stride}, which does not "
            f"divide bins of {bin_size} pixels"
        )
    output = traced.output
    if nodes[output].stride != 1:
        raise LoweringError(
            f"node {output}: the output has 1/{nodes[output].stride} of the frame's resolution; "
            "end the network with an upsampling to full resolution"
        )
    units = find_units(traced)
    if not units:
        raise LoweringError(f"node {output}: the network has no residual block, so nothing could be dropped")
    stages = _stages(traced, units, bin_size)
    return TileProgram(graph, nodes, units, stages, output, bin_size, stride)


def _follow_shapes(graph: fx.GraphModule, stride: int) -> None:
    """Note in every node's ``meta["shape"]`` the shape of its result for two large frames."""
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise LoweringError(f"node {inputs[-1].name}: a network has to have one input, the frame")
    unit = math.lcm(stride, _REFERENCE)

    class Follow(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            try:
                result = super().run_node(n)
            except NOT_OF_A_MODEL:
                raise
            except Exception as error:
                raise LoweringError(f"node {n.name} ({n.target}) fails on a frame: {error}") from error
            n.meta["shape"] = tuple(result.shape) if isinstance(result, torch.Tensor) else None
            return result

    shadow = copy.deepcopy(graph).to("meta")
    runner = Follow(shadow)
    runner.extra_traceback = False
    # two, so that what mixes frames shows, and not square, so that mistaking one side for the other does
    runner.run(torch.empty(2, 3, 2 * unit, 3 * unit, device="meta"))
    for ours, theirs in zip(graph.graph.nodes, shadow.graph.nodes, strict=True):
        ours.meta["shape"] = theirs.meta.get("shape")


def _stages(traced: Traced, units: tuple[Unit, ...], bin_size: int) -> tuple[Stage, ...]:
    """Cut the network at the maps that have to be kept."""
    nodes = traced.nodes
    readers: dict[str, list[Node]] = {name: [] for name in nodes}
    for node in nodes.values():
        for name in node.inputs:
            readers[name].append(node)
    unit_of = {name: index for index, unit in enumerate(units) for name in unit.nodes}
    kept: set[str] = set()
    for node in nodes.values():
        if node.name != traced.output and _has_to_be_kept(node, readers[node.name], nodes, unit_of):
            kept.add(node.name)
    ends = {*kept, traced.output}
    for node in nodes.values():
        # what several stages read is computed once, unless that costs next to nothing
        several = node.name not in ends and len(_stages_behind(node, readers, ends)) > 1
        if several and _convolves(node, nodes, kept):
            kept.add(node.name)
            ends.add(node.name)
    return tuple(_stage(node, nodes, kept, unit_of, bin_size) for node in nodes.values() if node.name in ends)


def _has_to_be_kept(node: Node, readers: list[Node], nodes: dict[str, Node], unit_of: dict[str, int]) -> bool:
    if isinstance(node.operation, Image):
        return False
    if isinstance(node.operation, WholeMap):
        return True
    unit = unit_of.get(node.name)
    if any(unit_of.get(reader.name) != unit for reader in readers) and unit is not None:
        return True  # a unit's output
    if len(readers) > 1 and not isinstance(node.operation, Pointwise):
        return True
    windowed = [reader for reader in readers if not reader.is_point]
    if len(readers) == 1 and _is_stem(readers[0], node, nodes):
        return False
    return bool(windowed)


def _stages_behind(node: Node, readers: dict[str, list[Node]], ends: set[str]) -> set[str]:
    """Outputs of the stages in which a node would be computed."""
    found: set[str] = set()
    for reader in readers[node.name]:
        found |= {reader.name} if reader.name in ends else _stages_behind(reader, readers, ends)
    return found


def _convolves(node: Node, nodes: dict[str, Node], kept: set[str]) -> bool:
    """Whether computing this map from the kept ones takes a convolution."""
    return node.macs > 0 or any(
        name not in kept and _convolves(nodes[name], nodes, kept) for name in node.inputs
    )


def _is_stem(reader: Node, node: Node, nodes: dict[str, Node]) -> bool:
    """The frame or a convolution of it, with one windowed reader: a rim is cheaper than keeping it."""
    if not isinstance(reader.operation, Pooling | Convolution):
        return False
    if isinstance(reader.operation, Convolution) and reader.operation.window.border != "zeros":
        return False
    while isinstance(node.operation, Pointwise) and len(node.inputs) == 1:
        node = nodes[node.inputs[0]]
    if isinstance(node.operation, Convolution):
        node = nodes[node.inputs[0]]
    return isinstance(node.operation, Image)


def _stage(
    node: Node, nodes: dict[str, Node], kept: set[str], unit_of: dict[str, int], bin_size: int
) -> Stage:
    inside: list[str] = []
    reads: list[str] = []

    def collect(name: str) -> None:
        if name in inside or name in reads:
            return
        if name != node.name and (name in kept or isinstance(nodes[name].operation, Image)):
            reads.append(name)
            return
        for source in nodes[name].inputs:
            collect(source)
        inside.append(name)

    collect(node.name)
    macs = sum(nodes[name].macs * (bin_size // nodes[name].stride) ** 2 for name in inside)
    return Stage(
        output=node.name,
        nodes=tuple(inside),
        reads=tuple(reads),
        unit=unit_of.get(node.name),
        stride=node.stride,
        tile=bin_size // node.stride,
        macs=macs,
    )
