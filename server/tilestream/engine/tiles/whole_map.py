"""Global context: what is computed on a session's whole map and then spread over its tiles."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from tilestream.engine.dense.packed import PackedConv2d
from tilestream.engine.lowering.program import Node, TileProgram, WholeMap
from tilestream.engine.tiles.kernels import to_rows, to_tiles
from tilestream.engine.tiles.workspace import Step


class WholeMapRunner:
    """Runs the traced nodes of whole-map stages, in the working precision."""

    def __init__(self, program: TileProgram, device: torch.device, dtype: torch.dtype) -> None:
        self._program = program
        self._graph = copy.deepcopy(program.graph).to(device, dtype)
        self._modules = dict(self._graph.named_modules())
        if device.type == "cpu" and torch.backends.mkldnn.is_available():
            self._modules = {name: _packed(module) for name, module in self._modules.items()}

    def kernel(self, node: Node, operation: WholeMap) -> Callable[[Step], Tensor]:
        """What computes the tiles of a whole-map node: [n, C, tile, tile], without padding to a bucket."""
        nodes, tile = self._program.nodes, self._program.tile(node.stride)

        def run(step: Step) -> Tensor:
            parts = []
            for session in map(int, np.unique(step.tiles.session)):
                known: dict[str, Any] = {name: step.whole(nodes[name], session) for name in node.inputs}
                for name in operation.shapes:
                    size = step.tables.size(nodes[name].stride, session)
                    known.setdefault(name, torch.empty(1, nodes[name].channels, *size, device="meta"))
                result = self.interpret(operation.nodes, known)
                chosen = step.tables.positions(node.stride, step.tiles, session)
                parts.append(to_rows(result).index_select(0, chosen))
            return to_tiles(torch.cat(parts), tile, tile)

        return run

    def interpret(self, nodes: tuple[fx.Node, ...], known: dict[str, Any]) -> Tensor:
        """Run traced nodes one after the other; ``known``: values by name of what they read."""
        value: Any = None
        for node in nodes:
            args = fx.node.map_arg(node.args, lambda n: known[n.name])
            kwargs = fx.node.map_arg(node.kwargs, lambda n: known[n.name])
            if node.op == "call_module":
                value = self._modules[str(node.target)](*args, **kwargs)
            elif node.op == "call_method":
                value = getattr(args[0], str(node.target))(*args[1:], **kwargs)
            elif node.op == "get_attr":
                value = operator.attrgetter(str(node.target))(self._graph)
            else:
                value = node.target(*args, **kwargs)  # type: ignore[operator]
            known[node.name] = value
        return value  # type: ignore[no-any-return]


def _packed(module: nn.Module) -> nn.Module:
    if type(module) is not nn.Conv2d or module.padding_mode != "zeros" or isinstance(module.padding, str):
        return module
    return PackedConv2d(module, relu=False)
