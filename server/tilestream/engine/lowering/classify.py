"""Which operation every node of a traced network is, and where it stands against the frame's grid."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from tilestream.engine.lowering.operations import (
    ACTIVATION_METHODS,
    ACTIVATIONS,
    ADDITIONS,
    BINARY,
    GLOBAL,
    GLOBAL_MODULES,
    WithConstant,
    activation,
    arguments_of,
    channel_slice,
    describe,
    from_module,
    macs_of,
    output_stride,
    pair,
    pooling_call,
    upsampling,
)
from tilestream.engine.lowering.program import (
    Image,
    LoweringError,
    Node,
    Operation,
    Pointwise,
    WholeMap,
)

# An average over this many positions or more is global context, not a layer: it runs on the whole map.
_WIDE_POOL = 5


@dataclass(slots=True)
class Traced:
    """A traced network whose nodes are known. ``additions``: nodes that add two maps of the network."""

    graph: fx.GraphModule
    nodes: dict[str, Node] = field(default_factory=dict)
    additions: set[str] = field(default_factory=set)
    output: str = ""


def classify(graph: fx.GraphModule) -> Traced:
    """Find every node's operation and stride. Raises :class:`LoweringError` for what tiles cannot do."""
    traced = Traced(graph)
    classifier = _Classifier(traced)
    for node in graph.graph.nodes:
        classifier.visit(node)
    return traced


class _Classifier:
    """Walks through the graph. A tensor is on the frame's grid (in ``traced.nodes``) or ``off_grid``."""

    def __init__(self, traced: Traced) -> None:
        self.traced = traced
        self.nodes = traced.nodes
        self.modules = dict(traced.graph.named_modules())
        self.off_grid: set[fx.Node] = set()  # pooled maps, vectors: global context
        self.shapes: dict[fx.Node, fx.Node] = {}  # shape expression -> the map whose shape it is
        self.frames = 0  # that shapes were followed with, and their height and width
        self.sides: list[int] = []

    def visit(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.frames, _, *self.sides = node.meta["shape"]
            self.nodes[node.name] = Node(node.name, Image(), (), 3, 1)
        elif node.op == "output":
            self._output(node)
        elif node.op == "get_attr":
            pass  # constants are looked up by whoever reads them
        elif self._is_shape(node):
            source = node.all_input_nodes[0]
            self.shapes[node] = self.shapes.get(source, source)
        else:
            self._compute(node)

    def _output(self, node: fx.Node) -> None:
        result = node.args[0]
        if not isinstance(result, fx.Node):
            raise LoweringError(f"node {node.name}: the network has to return one tensor, the logits")
        if result.name not in self.nodes:
            raise LoweringError(f"node {result.name}: the output is not on the frame's grid")
        self.traced.output = result.name

    def _is_shape(self, node: fx.Node) -> bool:
        """Sizes of maps and arithmetic on them."""
        if node.op == "call_function" and node.target is getattr:
            return node.args[1] == "shape"
        if node.op == "call_method" and node.target in ("size", "dim"):
            return True
        inputs = node.all_input_nodes
        return bool(inputs) and node.meta.get("shape") is None and all(n in self.shapes for n in inputs)

    def _compute(self, node: fx.Node) -> None:
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise LoweringError(
                f"node {node.name} ({type(module).__name__}): without running statistics it mixes "
                "the frames of a batch"
            )
        tensors = [n for n in node.all_input_nodes if n not in self.shapes and n.op != "get_attr"]
        on_grid = [n for n in tensors if n.name in self.nodes]
        if not tensors:
            raise LoweringError(
                f"node {node.name} ({describe(self.modules, node)}): makes a tensor from nothing"
            )
        if not on_grid:
            self._off_grid(node)
        elif len(on_grid) < len(tensors):
            self._merge(node, on_grid, tensors)
        elif self._is_global(node):
            self.off_grid.add(node)
        else:
            self._on_grid(node)

    def _off_grid(self, node: fx.Node) -> None:
        """Global context, until it is interpolated to the size of a map."""
        target = self._interpolation(node)
        if target is not None and isinstance(target, fx.Node) and target.name in self.nodes:
            self._whole_map(node, self.nodes[target.name].stride)
        else:
            self.off_grid.add(node)

    def _merge(self, node: fx.Node, on_grid: list[fx.Node], tensors: list[fx.Node]) -> None:
        """Global context meets a map: vectors (1x1 maps) are spread over it."""
        strides = {self.nodes[n.name].stride for n in on_grid}
        vectors = [n for n in tensors if n not in on_grid]
        shapes = [v.meta["shape"] for v in vectors]
        spread = all(s is not None and s[0] == self.frames and s[2:] == (1, 1) for s in shapes)
        if node.target not in BINARY or len(strides) > 1 or not spread:
            raise LoweringError(
                f"node {node.name} ({describe(self.modules, node)}): a pooled map meets a map of the "
                "frame; it has to be a 1x1 map that is added or multiplied, or be interpolated to the map's "
                "size first"
            )
        self._whole_map(node, strides.pop())

    def _whole_map(self, node: fx.Node, stride: int) -> None:
        needed: list[fx.Node] = []
        inputs: list[str] = []
        shapes: list[str] = []

        def collect(current: fx.Node) -> None:
            if current in needed:
                return
            if current in self.shapes and self.shapes[current].name in self.nodes:
                shapes.append(self.shapes[current].name)
            for source in current.all_input_nodes:
                if source.name not in self.nodes:
                    collect(source)
                elif current not in self.shapes:
                    inputs.append(source.name)
            needed.append(current)

        collect(node)
        if any(isinstance(self.nodes[name].operation, Image) for name in inputs):
            raise LoweringError(f"node {node.name}: global context of the frame itself is not supported")
        operation = WholeMap(tuple(needed), tuple(dict.fromkeys(shapes)))
        self._add(node, operation, tuple(dict.fromkeys(inputs)), stride)
        if node.target in ADDITIONS:
            self.traced.additions.add(node.name)

    def _is_global(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            module = self.modules[str(node.target)]
            wide = isinstance(module, nn.AvgPool2d) and max(pair(module.kernel_size)) >= _WIDE_POOL
            return isinstance(module, GLOBAL_MODULES) or wide
        if node.target is F.avg_pool2d:
            return max(pair(arguments_of(node, "input", "kernel_size")["kernel_size"])) >= _WIDE_POOL
        return node.target in GLOBAL

    def _on_grid(self, node: fx.Node) -> None:
        found = self._operation(node)
        inputs = tuple(n.name for n in self._tensor_inputs(node))
        strides = {self.nodes[name].stride for name in inputs}
        if len(strides) > 1:
            raise LoweringError(
                f"node {node.name} ({describe(self.modules, node)}): its inputs have different resolutions, "
                f"1/{' and 1/'.join(map(str, sorted(strides)))}"
            )
        stride = output_stride(node.name, found, strides.pop())
        self._add(node, found, inputs, stride)
        if isinstance(found, Pointwise) and node.target in ADDITIONS and len(inputs) == 2:
            self.traced.additions.add(node.name)

    def _add(self, node: fx.Node, operation: Operation, inputs: tuple[str, ...], stride: int) -> None:
        shape = node.meta["shape"]
        expected = [side // stride for side in self.sides]
        if shape is None or len(shape) != 4 or shape[0] != self.frames or list(shape[2:]) != expected:
            raise LoweringError(
                f"node {node.name} ({describe(self.modules, node)}): {self.frames} frames of {self.sides} "
                f"pixels should give maps of {expected}, 1/{stride} of it, but give {shape}"
            )
        self.nodes[node.name] = Node(node.name, operation, inputs, shape[1], stride, macs_of(operation))

    def _tensor_inputs(self, node: fx.Node) -> list[fx.Node]:
        return [n for n in node.all_input_nodes if n.name in self.nodes and n not in self.shapes]

    def _operation(self, node: fx.Node) -> Operation:
        if node.op == "call_module":
            operation = from_module(node, self.modules[str(node.target)])
        else:
            operation = self._from_call(node)
        if operation is None:
            raise LoweringError(
                f"node {node.name} ({describe(self.modules, node)}): this operation is not supported on tiles"
            )
        return operation

    def _from_call(self, node: fx.Node) -> Operation | None:
        target = node.target
        if target in ACTIVATIONS or (node.op == "call_method" and target in ACTIVATION_METHODS):
            return activation(node)
        if target in BINARY:
            return self._binary(node)
        if target is torch.cat or target is torch.concat:
            return self._cat(node)
        if target is operator.getitem:
            return channel_slice(node)
        if target is F.max_pool2d or target is F.avg_pool2d:
            return pooling_call(node)
        if target is F.dropout or target == "contiguous":
            return Pointwise(lambda x: x, "identity")
        return self._upsampling(node)

    def _cat(self, node: fx.Node) -> Operation | None:
        """Maps one behind the other along the channels, some of them maybe more than once."""
        arguments = arguments_of(node, "tensors", "dim")
        if arguments.get("dim", 0) not in (1, -3):
            return None
        inputs = self._tensor_inputs(node)
        order = [inputs.index(n) for n in arguments["tensors"]]
        return Pointwise(lambda *x: torch.cat([x[index] for index in order], 1), "cat")

    def _binary(self, node: fx.Node) -> Operation | None:
        """Two maps, or a map and a constant."""
        if len(node.args) != 2 or node.kwargs or any(value in self.shapes for value in node.args):
            return None
        function, (left, right) = BINARY[node.target], node.args
        constants = [self._constant(node, value) for value in (left, right)]
        if constants[0] is None and constants[1] is None:
            if left is right:
                return Pointwise(lambda x: function(x, x), function.__name__)
            return Pointwise(function, function.__name__)
        holder = WithConstant(function, *constants)
        return Pointwise(holder, function.__name__, holder)

    def _constant(self, node: fx.Node, value: Any) -> Tensor | None:
        if isinstance(value, fx.Node):
            if value.op != "get_attr":
                return None
            tensor = operator.attrgetter(str(value.target))(self.traced.graph).detach()
            shape = tuple(tensor.shape)[-3:]
            if (
                tensor.ndim > 4
                or (tensor.ndim >= 2 and shape[-2:] != (1, 1))
                or tensor.ndim == 1 != tensor.numel()
            ):
                raise LoweringError(
                    f"node {node.name}: its constant of shape {tuple(tensor.shape)} varies in space"
                )
            return tensor.reshape(1, -1, 1, 1)
        return torch.tensor(float(value)).reshape(1, 1, 1, 1)

    def _interpolation(self, node: fx.Node) -> Any:
        """What an interpolation goes to: a map's size, or a factor. None if it is none."""
        if node.op == "call_module":
            module = self.modules[str(node.target)]
            return module.scale_factor if isinstance(module, nn.Upsample) else None
        if node.target is not F.interpolate:
            return None
        arguments = arguments_of(node, "input", "size", "scale_factor", "mode", "align_corners")
        size = arguments.get("size")
        if size is None:
            return arguments.get("scale_factor")
        expressions = [size] if isinstance(size, fx.Node) else [n for n in size if isinstance(n, fx.Node)]
        roots = {self.shapes[n] for n in expressions if n in self.shapes}
        return roots.pop() if len(roots) == 1 else None

    def _upsampling(self, node: fx.Node) -> Operation | None:
        target = self._interpolation(node)
        if node.target is not F.interpolate or target is None:
            return None
        arguments = arguments_of(node, "input", "size", "scale_factor", "mode", "align_corners")
        if isinstance(target, fx.Node):
            source = self.nodes[self._tensor_inputs(node)[0].name].stride
            if target.name not in self.nodes:
                return None
            target = source / self.nodes[target.name].stride
        return upsampling(
            node, target, arguments.get("mode", "nearest"), bool(arguments.get("align_corners"))
        )
