"""Convolutions on CUDA that add what is added to them and end in a ReLU, in one pass over memory.

cuDNN has such kernels, and eager PyTorch does not use them: bias, addition and ReLU behind a convolution are
passes over memory of their own, which take as long as the convolution itself.
"""

from __future__ import annotations

import logging
import operator

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

log = logging.getLogger(__name__)

_ADDITIONS = (operator.add, operator.iadd, torch.add)


class FusedConv2d(nn.Module):
    """relu(conv(x)), or relu(conv(x) + z) if ``z`` is given, which may have to be broadcast."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        if isinstance(conv.padding, str):
            raise ValueError(f"padding has to be numbers, not {conv.padding!r}")
        self.weight = nn.Parameter(conv.weight.detach(), requires_grad=False)
        bias = torch.zeros(len(conv.weight)) if conv.bias is None else conv.bias.detach()
        self.bias = nn.Parameter(bias.to(conv.weight), requires_grad=False)
        self._geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        if not x.is_cuda or (z is not None and z.shape != self.output_shape(x)):  # cuDNN does not broadcast
            plain = F.conv2d(x, self.weight, self.bias, *self._geometry)
            return (plain if z is None else plain + z).relu_()
        if z is None:
            return torch.cudnn_convolution_relu(x, self.weight, self.bias, *self._geometry)
        return torch.cudnn_convolution_add_relu(x, self.weight, z, 1.0, self.bias, *self._geometry)

    def output_shape(self, x: Tensor) -> tuple[int, ...]:
        """Of the result for ``x`` [N, C, H, W]."""
        stride, padding, dilation, _ = self._geometry
        axes = zip(x.shape[2:], self.weight.shape[2:], stride, padding, dilation, strict=True)
        sides = ((side + 2 * p - d * (k - 1) - 1) // s + 1 for side, k, s, p, d in axes)
        return (len(x), len(self.weight), *sides)


def fuse_convolutions(network: fx.GraphModule) -> fx.GraphModule:
    """Replace convolutions that only a ReLU reads, or an addition that only a ReLU reads, in place."""
    modules = dict(network.named_modules())
    for node in list(network.graph.nodes):
        if not _is_relu(node, modules):
            continue
        source = node.args[0]
        addition = source if source.op == "call_function" and source.target in _ADDITIONS else None
        if addition is None:
            conv, other = source, None
        else:
            conv, other = _added(addition, modules)
        if conv is None or not _is_plain(conv, modules) or len(conv.users) > 1 or len(source.users) > 1:
            continue
        _fuse(network, node, addition, conv, other)
    network.graph.eliminate_dead_code()
    network.recompile()
    return network


def _fuse(
    network: fx.GraphModule, relu: fx.Node, addition: fx.Node | None, conv: fx.Node, other: fx.Node | None
) -> None:
    parent, _, name = str(conv.target).rpartition(".")
    setattr(network.get_submodule(parent), name, FusedConv2d(network.get_submodule(str(conv.target))))  # type: ignore[arg-type]
    arguments = (conv.args[0],) if other is None else (conv.args[0], other)
    with network.graph.inserting_before(relu):
        fused = network.graph.call_module(str(conv.target), arguments)
    relu.replace_all_uses_with(fused)
    for node in (relu, addition, conv):
        if node is not None:
            network.graph.erase_node(node)


def _added(addition: fx.Node, modules: dict[str, nn.Module]) -> tuple[fx.Node | None, fx.Node | None]:
    """The convolution of a sum and what it is added to; of two, the later one."""
    left, right = addition.args[:2]
    if not isinstance(left, fx.Node) or not isinstance(right, fx.Node) or addition.kwargs:
        return None, None
    order = {node: index for index, node in enumerate(addition.graph.nodes)}
    for conv, other in sorted(((left, right), (right, left)), key=lambda pair: -order[pair[0]]):
        if _is_plain(conv, modules) and len(conv.users) == 1:
            return conv, other
    return None, None


def _is_plain(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    conv = modules.get(str(node.target)) if node.op == "call_module" else None
    return (
        type(conv) is nn.Conv2d
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and conv.groups == 1
        and len([other for other in node.graph.nodes if other.target == node.target]) == 1
    )


def _is_relu(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if not node.args:  # its input is named
        return False
    if node.op == "call_module":
        return isinstance(modules.get(str(node.target)), nn.ReLU)
    return node.op == "call_function" and node.target in (F.relu, torch.relu)
