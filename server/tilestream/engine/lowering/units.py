"""Finding residual blocks: an addition and the branch that it closes."""

from __future__ import annotations

from torch import fx

from tilestream.engine.lowering.classify import Traced
from tilestream.engine.lowering.program import Convolution, Pointwise, Unit, Upsampling, WholeMap


def find_units(traced: Traced) -> tuple[Unit, ...]:
    """The innermost residual blocks, in the order in which they are computed.

    A block is what lies between a map and an addition, when one side of the addition is that map itself
    (identity skip) or at most one convolution of it (projected skip), and nothing inside is read from
    outside. Blocks that enclose other additions or an upsampling are the network's long skips, not units.
    """
    graph = {node.name: node for node in traced.graph.graph.nodes}
    units = []
    for name in traced.nodes:
        if name in traced.additions:
            unit = _unit(traced, graph, graph[name])
            if unit is not None:
                units.append(unit)
    return tuple(units)


def _unit(traced: Traced, graph: dict[str, fx.Node], addition: fx.Node) -> Unit | None:
    left, right = (source for source in addition.all_input_nodes[:2])
    for skip, end in ((left, right), (right, left)):
        projection: list[fx.Node] = []
        fork: fx.Node | None = skip
        while fork is not None:
            branch = _between(fork, end)
            if branch is not None:
                inside = {*branch, *projection}
                if _is_block(traced, addition, fork, inside, branch, projection):
                    output = _activation_behind(traced, addition)
                    names = {node.name for node in inside} | {addition.name, output.name}
                    return Unit(output.name, frozenset(names), projected=bool(projection))
                break
            projection.append(fork)
            inputs = [n for n in fork.all_input_nodes if n.name in traced.nodes]
            fork = inputs[0] if len(inputs) == 1 and _convolutions(traced, projection) <= 1 else None
    return None


def _between(start: fx.Node, end: fx.Node) -> set[fx.Node] | None:
    """All nodes on ways from ``start`` (without it) to ``end`` (with it); None if there is no way."""
    behind = {start}
    node = start
    while node is not end and node.op != "output":  # the graph's order is one of computation
        node = node.next
        if not behind.isdisjoint(node.all_input_nodes):
            behind.add(node)
    if node is start or node not in behind or node is not end:
        return None
    on_way, pending = {end}, [end]
    while pending:
        sources = behind.intersection(pending.pop().all_input_nodes) - on_way
        on_way |= sources
        pending += sources
    return on_way - {start}


def _is_block(
    traced: Traced,
    addition: fx.Node,
    fork: fx.Node,
    inside: set[fx.Node],
    branch: set[fx.Node],
    projection: list[fx.Node],
) -> bool:
    if _convolutions(traced, list(branch)) < 1 or _convolutions(traced, projection) > 1:
        return False
    for node in inside:
        if node.name in traced.additions or not set(node.users) <= inside | {addition}:
            return False
        known = traced.nodes.get(node.name)
        if known is not None and isinstance(known.operation, Upsampling):
            return False
        if known is not None and isinstance(known.operation, WholeMap) and "interpolate" in str(node.target):
            return False
    sources = {source for node in inside for source in node.all_input_nodes if source.op != "get_attr"}
    return sources <= inside | {fork}


def _convolutions(traced: Traced, nodes: list[fx.Node]) -> int:
    known = [traced.nodes.get(node.name) for node in nodes]
    return sum(node is not None and isinstance(node.operation, Convolution) for node in known)


def _activation_behind(traced: Traced, addition: fx.Node) -> fx.Node:
    """The activation that alone reads the sum, or the sum."""
    if len(addition.users) == 1:
        user = next(iter(addition.users))
        known = traced.nodes.get(user.name)
        if known is not None and isinstance(known.operation, Pointwise) and len(known.inputs) == 1:
            return user
    return addition
