"""Making a network faster on CPUs without changing what it computes.

Eager PyTorch reorders a convolution's weights for oneDNN in every call and runs the ReLU behind it as
another pass over memory. Here the weights are packed once, and the ReLU is done inside the convolution,
with the operators that PyTorch's own compiler emits, but without its start-up time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn


class PackedConv2d(nn.Module):
    """A convolution with weights in oneDNN's own layout, and a ReLU if ``relu``.

    ``input_shape``: a typical [N, C, H, W] to choose the layout for; any other works too.
    """

    def __init__(self, conv: nn.Conv2d, relu: bool, input_shape: list[int]) -> None:
        super().__init__()
        assert not isinstance(conv.padding, str)
        self._geometry = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        plain = conv.weight.detach().to_mkldnn()
        pack = torch._C._nn.mkldnn_reorder_conv2d_weight
        self._weight: Tensor = pack(plain, *self._geometry, input_shape)  # type: ignore[call-arg]
        self._bias = None if conv.bias is None else conv.bias.detach()
        self._attribute = "relu" if relu else "none"

    def forward(self, x: Tensor) -> Tensor:
        run = torch.ops.mkldnn._convolution_pointwise
        return run(x, self._weight, self._bias, *self._geometry, self._attribute, [], "")


def pack_convolutions(network: fx.GraphModule, example: Tensor) -> fx.GraphModule:
    """Replace each plain convolution (and the ReLU that alone reads it) by a :class:`PackedConv2d`, in place.

    ``example``: an input of the network, of typical size and in its precision.
    """
    modules = dict(network.named_modules())
    shapes = _input_shapes(network, example)
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
        setattr(network.get_submodule(parent), name, PackedConv2d(conv, relu, shapes[conv]))
    network.recompile()
    return network


def _is_relu(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], nn.ReLU)
    return node.op == "call_function" and node.target in (F.relu, torch.relu)


def _input_shapes(network: nn.Module, example: Tensor) -> dict[nn.Module, list[int]]:
    """The shape that each convolution sees when the network runs on ``example``."""
    shapes: dict[nn.Module, list[int]] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        shapes[module] = list(inputs[0].shape)

    handles = [m.register_forward_pre_hook(note) for m in network.modules() if isinstance(m, nn.Conv2d)]
    network(example)
    for handle in handles:
        handle.remove()
    return shapes
