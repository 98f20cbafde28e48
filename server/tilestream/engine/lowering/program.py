"""What lowering makes of a network: nodes, droppable units, and the stages that are run tile by tile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, fx, nn


class LoweringError(Exception):
    """A network cannot be run on tiles; the message names the node and says why."""


NOT_OF_A_MODEL = (OSError, MemoryError)
"""What goes wrong with the system while a network is tried out is no fault of the network."""


@dataclass(frozen=True, slots=True)
class Axis:
    """How a windowed operation walks along one axis: output o reads inputs o * stride - lo + j * dilation."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    lo: int = 0  # padding before the first input
    hi: int = 0  # and behind the last

    @property
    def reach(self) -> int:
        """Distance between the first and the last input of one output."""
        return self.dilation * (self.kernel - 1)

    def sources(self, start: int, length: int) -> tuple[int, int]:
        """First input and number of inputs of the outputs [start, start + length)."""
        return start * self.stride - self.lo, (length - 1) * self.stride + self.reach + 1

    def keeps_whole_factor(self) -> bool:
        """Whether an input of n * stride elements always gives n outputs."""
        return 0 <= self.reach - self.lo - self.hi < self.stride


@dataclass(frozen=True, slots=True)
class Window:
    """A windowed operation's geometry and what stands outside of the map."""

    y: Axis
    x: Axis
    border: str = "zeros"  # zeros, replicate, reflect, circular; "lowest" for max pooling

    @property
    def is_point(self) -> bool:
        """A 1x1 window at stride 1: reads exactly what it writes."""
        return self.y == self.x == Axis(1)


@dataclass(frozen=True, slots=True)
class Image:
    """The normalised frame itself."""


@dataclass(frozen=True, slots=True)
class Convolution:
    window: Window
    module: nn.Conv2d


@dataclass(frozen=True, slots=True)
class TransposedConvolution:
    module: nn.ConvTranspose2d
    factor: int
    y: Axis  # as the convolution that it is the gradient of
    x: Axis


@dataclass(frozen=True, slots=True)
class Pooling:
    window: Window
    kind: str  # max, or average
    count_outside: bool = True  # average: positions outside of the map count as zeros


@dataclass(frozen=True, slots=True)
class Upsampling:
    factor: int
    mode: str  # bilinear or nearest
    align_corners: bool = False


@dataclass(frozen=True, slots=True)
class Pointwise:
    """Every output element depends on the input elements at the same position only."""

    function: Callable[..., Tensor]  # of as many packed tensors [n, C, h, w] as the node has inputs
    what: str
    module: nn.Module | None = None  # where the function has parameters


@dataclass(frozen=True, slots=True)
class WholeMap:
    """Computed on whole maps: global context, and what brings it back to every position.

    ``nodes``: what is run, in order, the last one giving the result. ``shapes``: nodes of which only the
    shape is read.
    """

    nodes: tuple[fx.Node, ...]
    shapes: tuple[str, ...]


Operation = Image | Convolution | TransposedConvolution | Pooling | Upsampling | Pointwise | WholeMap


@dataclass(frozen=True, slots=True)
class Node:
    """One map of the network: ``channels`` at 1 / ``stride`` of the frame's resolution."""

    name: str
    operation: Operation
    inputs: tuple[str, ...]
    channels: int
    stride: int
    macs: int = 0  # multiply-accumulates per position of the output

    @property
    def is_point(self) -> bool:
        """Whether it reads its inputs only where it writes."""
        if isinstance(self.operation, Convolution):
            return self.operation.window.is_point
        return isinstance(self.operation, Pointwise)


@dataclass(frozen=True, slots=True)
class Unit:
    """A residual block: dropped in a bin, its output there is the moved output of the frame before."""

    name: str  # of its output
    nodes: frozenset[str]
    projected: bool  # its skip is a projection, not the identity


@dataclass(frozen=True, slots=True)
class Stage:
    """What is computed in one go for a tile and then kept: ``nodes`` up to the kept one, in order.

    ``output`` is kept in pages, but for the network's own output, from which the labels come.
    """

    output: str
    nodes: tuple[str, ...]
    reads: tuple[str, ...]  # kept maps, and the image
    unit: int | None
    stride: int
    tile: int  # features along a side
    macs: int  # per tile


@dataclass(frozen=True)
class TileProgram:
    """A network ready to be run on some tiles of every layer.

    What a dropped unit leaves behind is its previous output, moved along the motion ("reuse"), not the
    identity: ``dropped``.
    """

    graph: fx.GraphModule  # traced, batch norms folded; runs the network densely
    nodes: dict[str, Node]
    units: tuple[Unit, ...]
    stages: tuple[Stage, ...]
    output: str
    bin_size: int
    stride: int  # frames are padded to a multiple of this
    dropped: str = "reuse"

    @property
    def kept(self) -> tuple[Node, ...]:
        """The maps that are kept from frame to frame."""
        return tuple(self.nodes[stage.output] for stage in self.stages if stage.output != self.output)

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the kept maps, ascending. Each has its own pages."""
        return tuple(sorted({node.stride for node in self.kept}))

    def tile(self, stride: int) -> int:
        """Features along the side of a tile at a stride: the patch of a map that belongs to one bin."""
        return self.bin_size // stride

    def bins(self, height: int, width: int) -> tuple[int, int]:
        """Bins of a frame."""
        return -(-height // self.bin_size), -(-width // self.bin_size)

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """The frame's size as the network sees it."""
        return height + -height % self.stride, width + -width % self.stride

    def bytes_per_session(self, height: int, width: int, itemsize: int) -> int:
        """Bytes of all kept maps of one frame, in whole tiles."""
        rows, columns = self.bins(height, width)
        pixels = rows * columns * self.bin_size**2
        return sum(pixels // node.stride**2 * node.channels * itemsize for node in self.kept)
