"""From an nn.Module to a graph in which every node is a value of its own: nothing overwrites or shares."""

from __future__ import annotations

import copy
import inspect
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.fx.experimental.optimization import fuse

from tilestream.engine.lowering.program import NOT_OF_A_MODEL, LoweringError

_OUT_OF_PLACE: dict[Any, Any] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}
_ALIAS_MODULES = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten)
_ALIAS_CALLS = (operator.getitem, F.dropout, torch.flatten)
_ALIAS_METHODS = ("contiguous", "view", "reshape", "flatten", "squeeze", "unsqueeze", "permute", "transpose")


def trace(module: nn.Module, *, fold: bool = True) -> fx.GraphModule:
    """The module's graph in eval mode, batch norms folded. The module itself is left alone.

    ``fold`` False: batch norms stay, and the graph works with the module's own parameters, to train them.
    Its nodes have the same names; where a norm would be folded, the convolution's value is the norm's.
    """
    tensors = [] if fold else [*module.parameters(), *module.buffers()]
    shared: dict[int, Any] = {id(tensor): tensor for tensor in tensors}
    try:
        graph = fx.symbolic_trace(copy.deepcopy(module, dict(shared)).eval().float())
        _separate_convolutions(graph, shared)
        _out_of_place(graph)
        if fold:
            graph = fuse(graph, inplace=True, no_trace=True)  # type: ignore[assignment]
    except (LoweringError, *NOT_OF_A_MODEL):
        raise
    except Exception as error:  # tracing runs the module's own code, which may fail in any way
        raise LoweringError(f"{type(module).__name__} cannot be traced by torch.fx: {error}") from error
    _share_equal_nodes(graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _separate_convolutions(graph: fx.GraphModule, shared: dict[int, Any]) -> None:
    """Give every call of a convolution its own copy: what is folded into it differs by call.

    ``shared``: by ``id``, tensors that the copies have in common.
    """
    seen: set[str] = set()
    for node in graph.graph.nodes:
        if node.op != "call_module" or not isinstance(graph.get_submodule(node.target), nn.Conv2d):
            continue
        if node.target in seen:
            name = f"{node.target}_{node.name}"
            graph.add_submodule(name, copy.deepcopy(graph.get_submodule(node.target), dict(shared)))
            node.target = name
        seen.add(node.target)


def _out_of_place(graph: fx.GraphModule) -> None:
    """Let operations that overwrite their input make a new value, which all later readers read instead."""
    modules = {
        name: m for name, m in graph.named_modules(remove_duplicate=False) if getattr(m, "inplace", False)
    }
    passed: set[fx.Node] = set()
    for node in graph.graph.nodes:
        base = node.args[0] if node.args else None
        if isinstance(base, fx.Node) and (node.target in modules or _overwrites(node)):
            for alias in _aliases(graph, base) & passed - {base}:
                if not set(alias.users) <= {*passed, node}:
                    raise LoweringError(
                        f"node {node.name}: overwrites a part of {alias.name}, which is read later"
                    )
            for user in [user for user in base.users if user is not node and user not in passed]:
                user.replace_input_with(base, node)
        passed.add(node)
    for module in modules.values():
        module.inplace = False  # type: ignore[assignment]


def _overwrites(node: fx.Node) -> bool:
    """Whether a call works in place; it does no longer afterwards."""
    target: Any = node.target
    if node.op == "call_method":
        if target.endswith("__"):
            return False
        node.target = target.removesuffix("_")
        return bool(node.target != target)
    if node.op != "call_function":
        return False
    name = getattr(target, "__name__", "")
    if target in _OUT_OF_PLACE:
        node.target = _OUT_OF_PLACE[target]
        return True
    if name.endswith("_") and not name.endswith("__"):
        name = name.removesuffix("_")
        node.target = getattr(F, name, None) or getattr(torch, name)
        return True
    return _drop_inplace_argument(node)


def _drop_inplace_argument(node: fx.Node) -> bool:
    try:
        names = list(inspect.signature(node.target).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # built-in functions have none, and no such argument either
        return False
    if "inplace" not in names:
        return False
    position = names.index("inplace")
    found = node.kwargs.get("inplace", False)
    node.kwargs = {key: value for key, value in node.kwargs.items() if key != "inplace"}
    if len(node.args) > position:
        found = node.args[position]
        node.args = (*node.args[:position], False, *node.args[position + 1 :])
    return bool(found)


def _aliases(graph: fx.GraphModule, node: fx.Node) -> set[fx.Node]:
    """Nodes that may share memory with ``node``."""
    found: set[fx.Node] = set()
    pending = [node]
    while pending:
        current = pending.pop()
        if current in found:
            continue
        found.add(current)
        pending += [user for user in current.users if _is_alias(graph, user)]
        if _is_alias(graph, current):
            pending += current.all_input_nodes[:1]
    return found


def _is_alias(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(graph.get_submodule(str(node.target)), _ALIAS_MODULES)
    if node.op == "call_method":
        return node.target in _ALIAS_METHODS
    return node.target in _ALIAS_CALLS


def _share_equal_nodes(graph: fx.GraphModule) -> None:
    """Let equal calls with equal inputs be one node (networks like to apply the same ReLU twice)."""
    seen: dict[str, fx.Node] = {}
    for node in list(graph.graph.nodes):
        if node.op not in ("call_function", "call_method", "call_module"):
            continue
        same = seen.setdefault(repr((node.op, node.target, node.args, sorted(node.kwargs.items()))), node)
        if same is not node:
            node.replace_all_uses_with(same)
            graph.graph.erase_node(node)
