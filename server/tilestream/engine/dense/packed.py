"""Making a network faster on CPUs without changing what it computes.

Eager PyTorch reorders a convolution's weights for oneDNN in every call and runs the ReLU behind it as
another pass over memory. Here the weights are packed once for every size of map, and the ReLU is done inside
the convolution, with the operators that PyTorch's own compiler emits, but without its start-up time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

_SIZES = 4  # of maps, whose layouts are kept at a time: each takes as much memory as the weights


class PackedConv2d(nn.Module):
    """A convolution with weights in oneDNN's own layouts, and a ReLU if ``relu``.

    The best layout depends on the height and width of the maps. Where it is that of another size, oneDNN
    reorders all weights in every call, which takes longer than the convolution on CPUs without AVX512.
    ``batch``: a typical number of maps, which the layouts are chosen for, whatever comes first.
    """

    def __init__(self, conv: nn.Conv2d, relu: bool, batch: int = 1) -> None:
        super().__init__()
        assert not isinstance(conv.padding, str)
        self._geometry = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        self._weight, self._batch = conv.weight.detach(), batch
        self._packed: dict[torch.Size, Tensor] = {}  # by height and width
        self._bias = None if conv.bias is None else conv.bias.detach()
        self._attribute = "relu" if relu else "none"

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        weight = self._packed.get(size)
        if weight is None:
            weight = self._pack(size)
        run = torch.ops.mkldnn._convolution_pointwise
        return run(x, weight, self._bias, *self._geometry, self._attribute, [], "")

    def _pack(self, size: torch.Size) -> Tensor:
        if len(self._packed) == _SIZES:
            del self._packed[next(iter(self._packed))]
        shape = [self._batch, self._weight.shape[1] * self._geometry[3], *size]
        pack = torch._C._nn.mkldnn_reorder_conv2d_weight
        self._packed[size] = pack(self._weight.to_mkldnn(), *self._geometry, shape)  # type: ignore[call-arg]
        return self._packed[size]


def pack_convolutions(network: fx.GraphModule) -> fx.GraphModule:
    """Replace each plain convolution (and the ReLU that alone reads it) by a packed one, in place."""
    modules = dict(network.named_modules())
    for node in list(network.graph.nodes):
        conv = modules.get(str(node.target)) if node.op == "call_module" else None
        if type(conv) is not nn.Conv2d or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            continue
        reader = next(iter(node.users)) if len(node.users) == 1 else None
        relu = reader is not None and _is_relu(reader, modules)
        if relu and reader is not None:
            reader.replace_all_uses_with(node)
            network.graph.erase_node(reader)
        parent, _, name = str(node.target).rpartition(".")
        setattr(network.get_submodule(parent), name, PackedConv2d(conv, relu))
    network.recompile()
    return network


def _is_relu(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], nn.ReLU)
    return node.op == "call_function" and node.target in (F.relu, torch.relu)
