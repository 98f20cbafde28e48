"""What a module or a call of a traced network does to tiles."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from tilestream.engine.lowering.program import (
    Axis,
    Convolution,
    LoweringError,
    Operation,
    Pointwise,
    Pooling,
    TransposedConvolution,
    Upsampling,
    Window,
)

_ACTIVATION_MODULES = (
    nn.ReLU, nn.ReLU6, nn.PReLU, nn.LeakyReLU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.GELU,
    nn.ELU, nn.Tanh, nn.Hardtanh,
)  # fmt: skip
_IDENTITY_MODULES = (nn.Identity, nn.Dropout, nn.Dropout2d)
ACTIVATIONS: set[Any] = {
    F.relu, F.relu_, F.relu6, F.leaky_relu, F.silu, F.hardswish, F.hardsigmoid, F.sigmoid, F.gelu, F.elu,
    F.tanh, torch.relu, torch.relu_, torch.sigmoid, torch.tanh, torch.clamp,
}  # fmt: skip
ACTIVATION_METHODS = {"relu", "relu_", "sigmoid", "sigmoid_", "tanh", "clamp"}
ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_PRODUCTS = {operator.mul, operator.imul, torch.mul, "mul", "mul_"}
BINARY: dict[Any, Callable[..., Tensor]] = {
    **dict.fromkeys(ADDITIONS, torch.add),
    **dict.fromkeys(_PRODUCTS, torch.mul),
    **dict.fromkeys((operator.sub, torch.sub, "sub"), torch.sub),
    **dict.fromkeys((operator.truediv, torch.div, "div"), torch.div),
}
GLOBAL_MODULES = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
GLOBAL: set[Any] = {F.adaptive_avg_pool2d, F.adaptive_max_pool2d, torch.mean, "mean", "amax"}


class WithConstant(nn.Module):
    """A binary operation with one constant side, or two."""

    def __init__(self, function: Callable[..., Tensor], left: Tensor | None, right: Tensor | None) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("left", left)
        self.register_buffer("right", right)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x if self.left is None else self.left, x if self.right is None else self.right)


def from_module(node: fx.Node, module: nn.Module) -> Operation | None:
    if isinstance(module, nn.Conv2d):
        of_frame = node.all_input_nodes[0].op == "placeholder"
        if of_frame and module.padding_mode != "zeros":
            raise LoweringError(
                f"node {node.name} (Conv2d): {module.padding_mode} padding of the frame is not supported"
            )
        if module.weight.shape[1] * module.groups != module.in_channels:
            return None
        return Convolution(_conv_window(module), module)
    if isinstance(module, nn.ConvTranspose2d):
        return _transposed(node, module)
    if isinstance(module, nn.BatchNorm2d):
        return _affine(module)
    if isinstance(module, nn.MaxPool2d):
        if module.return_indices:
            return None
        options = (module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode)
        return _max_pooling(node, *options)
    if isinstance(module, nn.AvgPool2d):
        if module.divisor_override is not None:
            return None
        return _average_pooling(
            node,
            module.kernel_size,
            module.stride,
            module.padding,
            module.ceil_mode,
            module.count_include_pad,
        )
    if isinstance(module, nn.Upsample):
        return upsampling(node, module.scale_factor, module.mode, bool(module.align_corners))
    if isinstance(module, _ACTIVATION_MODULES):
        return Pointwise(module, type(module).__name__, module)
    if isinstance(module, _IDENTITY_MODULES):
        return Pointwise(lambda x: x, "identity")
    return None


def _conv_window(conv: nn.Conv2d) -> Window:
    if isinstance(conv.padding, str):
        reaches = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        total = reaches if conv.padding == "same" else [0, 0]
        pads = [(reach // 2, reach - reach // 2) for reach in total]
    else:
        pads = [(p, p) for p in conv.padding]
    axes = [
        Axis(k, s, d, lo, hi)
        for k, s, d, (lo, hi) in zip(conv.kernel_size, conv.stride, conv.dilation, pads, strict=True)
    ]
    return Window(axes[0], axes[1], conv.padding_mode)


def _affine(norm: nn.BatchNorm2d) -> Operation:
    """A batch norm that does not follow a convolution: a factor and an offset per channel."""
    assert norm.running_mean is not None and norm.running_var is not None  # visited before
    scale = (norm.running_var + norm.eps).rsqrt() * (1.0 if norm.weight is None else norm.weight)
    shift = (0.0 if norm.bias is None else norm.bias) - norm.running_mean * scale
    module = _Affine(scale.detach(), shift.detach())
    return Pointwise(module, "affine", module)


class _Affine(nn.Module):
    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.view(1, -1, 1, 1))
        self.register_buffer("shift", shift.view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, x, self.scale)


def _transposed(node: fx.Node, conv: nn.ConvTranspose2d) -> Operation:
    factor = conv.stride[0]
    kernels, pads = pair(conv.kernel_size), pair(conv.padding)
    axes = [Axis(k, 1, d, p, p) for k, d, p in zip(kernels, conv.dilation, pads, strict=True)]
    for axis, stride, extra in zip(axes, conv.stride, conv.output_padding, strict=True):
        if stride != factor or axis.reach + 1 < factor or axis.reach + 1 - 2 * axis.lo + extra != factor:
            raise LoweringError(f"node {node.name} (ConvTranspose2d): does not enlarge by a whole factor")
    return TransposedConvolution(conv, factor, axes[0], axes[1])


def _max_pooling(
    node: fx.Node, kernel: Any, stride: Any, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Operation:
    axes = _pool_axes(kernel, stride, padding, dilation, ceil_mode)
    return Pooling(Window(*axes, border="lowest"), "max")


def _average_pooling(
    node: fx.Node,
    kernel: Any,
    stride: Any,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_outside: bool = True,
) -> Operation:
    axes = _pool_axes(kernel, stride, padding, 1, ceil_mode)
    if ceil_mode and count_outside and any(axis.hi != p for axis, p in zip(axes, pair(padding), strict=True)):
        raise LoweringError(f"node {node.name} (AvgPool2d): ceil_mode needs count_include_pad=False")
    return Pooling(Window(*axes), "average", count_outside)


def _pool_axes(kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> tuple[Axis, Axis]:
    axes = []
    stride = kernel if stride is None else stride
    for k, s, p, d in zip(*(pair(v) for v in (kernel, stride, padding, dilation)), strict=True):
        hi = p
        while ceil_mode and not Axis(k, s, d, p, hi).keeps_whole_factor() and hi < p + s - 1:
            hi += 1  # rounding up adds a window that hangs over the far side
        axes.append(Axis(k, s, d, p, hi))
    return axes[0], axes[1]


def pooling_call(node: fx.Node) -> Operation | None:
    if (
        node.kwargs.get("return_indices")
        or node.kwargs.get("divisor_override") is not None
        or len(node.args) > 6
    ):
        return None
    if node.target is F.max_pool2d:
        a = arguments_of(node, "input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
        return _max_pooling(
            node,
            a["kernel_size"],
            a.get("stride"),
            a.get("padding", 0),
            a.get("dilation", 1),
            a.get("ceil_mode", False),
        )
    a = arguments_of(node, "input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
    return _average_pooling(
        node, a["kernel_size"], a.get("stride"), a.get("padding", 0), a.get("ceil_mode", False),
        a.get("count_include_pad", True),
    )  # fmt: skip


def upsampling(node: fx.Node, factor: Any, mode: str, align_corners: bool) -> Operation:
    factors = set(factor) if isinstance(factor, tuple | list) else {factor}
    value = factors.pop() if len(factors) == 1 else None
    if mode not in ("bilinear", "nearest") or value is None or value < 1 or value != int(value):
        raise LoweringError(
            f"node {node.name} (interpolate): only bilinear and nearest upsampling by a whole factor is "
            f"supported (mode {mode}, factor {factor})"
        )
    return Upsampling(int(value), mode, align_corners)


def activation(node: fx.Node) -> Operation:
    rest, kwargs = node.args[1:], {k: v for k, v in node.kwargs.items() if k not in ("inplace", "input")}
    target: Any = node.target
    name = target if isinstance(target, str) else target.__name__
    name = name.rstrip("_")
    function: Any = getattr(torch, name) if isinstance(target, str) else target
    function = {F.relu_: F.relu, torch.relu_: torch.relu}.get(function, function)
    arguments = tuple(value for value in rest if not isinstance(value, bool))
    return Pointwise(lambda x: function(x, *arguments, **kwargs), name)  # type: ignore[misc]


def channel_slice(node: fx.Node) -> Operation | None:
    """x[:, a:b]: some of the channels."""
    index = node.args[1]
    if not isinstance(index, tuple) or len(index) < 2:
        return None
    whole = slice(None, None, None)
    if index[0] != whole or any(part != whole for part in index[2:]) or not isinstance(index[1], slice):
        return None
    chosen = index[1]
    if any(isinstance(part, fx.Node) for part in (chosen.start, chosen.stop, chosen.step)):
        return None
    return Pointwise(lambda x: x[:, chosen], "slice")


def output_stride(name: str, operation: Operation, stride: int) -> int:
    if isinstance(operation, Convolution | Pooling):
        y, x = operation.window.y, operation.window.x
        if y.stride != x.stride or not (y.keeps_whole_factor() and x.keeps_whole_factor()):
            raise LoweringError(
                f"node {name}: does not shrink its map by a whole factor, alike in both directions"
            )
        return stride * y.stride
    if isinstance(operation, Upsampling | TransposedConvolution):
        if stride % operation.factor:
            raise LoweringError(f"node {name}: enlarges beyond the frame's resolution")
        return stride // operation.factor
    return stride


def macs_of(operation: Operation) -> int:
    if isinstance(operation, Convolution):
        return operation.module.weight.numel()
    if isinstance(operation, TransposedConvolution):
        return operation.module.weight.numel() // operation.factor**2
    return 0


def arguments_of(node: fx.Node, *names: str) -> dict[str, Any]:
    """A call's arguments by name."""
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def pair(value: Any) -> tuple[int, int]:
    return tuple(value) if isinstance(value, tuple | list) else (value, value)  # type: ignore[return-value]


def describe(modules: dict[str, nn.Module], node: fx.Node) -> str:
    if node.op == "call_module":
        return type(modules[str(node.target)]).__name__
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
