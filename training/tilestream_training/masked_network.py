"""A network as the engine runs it on partial frames, in passes over whole maps that can be learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from tilestream.engine.arrays import Mask
from tilestream.engine.dense.labels import is_plain_upsampling
from tilestream.engine.lowering.lower import lower
from tilestream.engine.lowering.program import LoweringError, TileProgram
from tilestream.engine.lowering.trace import trace
from tilestream.engine.memory.row_map import RowMap
from tilestream.engine.motion.flow import Motion
from tilestream.engine.tiles.masks import stage_masks

Sources = dict[int, Tensor]
"""By stride, for every position of a map the position in the frame before that it shows: int64 [h * w]."""


@dataclass(frozen=True, slots=True)
class PlayedFrames:
    """``scores``: float [N, classes, h, w] at 1 / ``MaskedNetwork.score_stride`` of the frame's resolution.

    ``maps``: by name [N, C, h', w'], what the next frame reuses: the kept maps, and the scores.
    """

    scores: Tensor
    maps: dict[str, Tensor]

    def detached(self) -> PlayedFrames:
        """The same without what led to it."""
        return PlayedFrames(
            self.scores.detach(), {name: values.detach() for name, values in self.maps.items()}
        )

    def moved(self, strides: dict[str, int], sources: Sequence[Sources]) -> dict[str, Tensor]:
        """The maps after a motion, one of each frame: nearest features, as the engine moves them."""
        moved = {}
        for name, values in self.maps.items():
            stride, rows = strides[name], values.flatten(2)
            index = torch.stack([source[stride] for source in sources])[:, None].to(values.device)
            moved[name] = rows.gather(2, index.expand_as(rows)).view_as(values)
        return moved


class MaskedNetwork:
    """Plays partial frames through any network that :func:`lower` takes, with the network's own parameters.

    Batch norms keep to their statistics. In bins that are not kept, every map that the engine keeps is the
    frame before's, moved. What the engine computes in kept bins follows to rounding, and gradients reach the
    parameters through both, the computed and the moved.
    """

    def __init__(self, module: nn.Module, bin_size: int = 64) -> None:
        """Raises :class:`~tilestream.engine.lowering.program.LoweringError`."""
        self.program: TileProgram = lower(module, bin_size)
        self.graph = trace(module, fold=False)
        self.score_node = _score_node(self.program)
        self.score_stride: int = self.program.nodes[self.score_node].stride
        self.strides = {node.name: node.stride for node in self.program.kept}
        self.strides[self.score_node] = self.score_stride
        self.kept = frozenset(node.name for node in self.program.kept)
        stage_of = {stage.output: index for index, stage in enumerate(self.program.stages)}
        last = len(self.program.stages) - 1
        self._stages = {name: stage_of.get(name, last) for name in self.strides}
        self.computes = _computes(self.graph, self.strides)

    def dense(self, x: Tensor) -> PlayedFrames:
        """Whole frames: float [N, 3, H, W], normalised; H and W multiples of the program's stride."""
        return _Player(self, None, None).play(x)

    def partial(self, x: Tensor, moved: dict[str, Tensor], keep: Sequence[Mask]) -> PlayedFrames:
        """Frames of which ``keep``, one bool [units, bins_h, bins_w] each, is computed.

        ``moved``: see :meth:`PlayedFrames.moved`.
        """
        masks = [stage_masks(self.program, mask) for mask in keep]
        fresh = {}
        for name, stride in self.strides.items():
            chosen = np.stack([each[self._stages[name]] for each in masks])
            fresh[name] = self._spread(torch.from_numpy(chosen), stride, moved[name]).to(x.device)
        return _Player(self, moved, fresh).play(x)

    def _spread(self, bins: Tensor, stride: int, values: Tensor) -> Tensor:
        """Bool [N, 1, h, w] from bool [N, bins_h, bins_w]."""
        height, width = values.shape[2:]
        return spread(bins, self.program.tile(stride), height, width)[:, None]


class _Player(fx.Interpreter):
    """One pass. ``moved``, ``fresh``: by name of a map, what is shown where it is not fresh."""

    def __init__(
        self, network: MaskedNetwork, moved: dict[str, Tensor] | None, fresh: dict[str, Tensor] | None
    ) -> None:
        super().__init__(network.graph)
        self.extra_traceback = False
        self._network, self._moved, self._fresh = network, moved, fresh
        self._maps: dict[str, Tensor] = {}

    def play(self, x: Tensor) -> PlayedFrames:
        self.run(x)
        maps = self._maps
        score = self._network.score_node
        if score not in self._network.kept:
            maps[score] = self._mixed(score, maps[score])  # nothing in the network reads it mixed
        return PlayedFrames(maps[score], maps)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        name = self._network.computes.get(n.name)
        if name is None:
            return value
        self._maps[name] = self._mixed(name, value) if name in self._network.kept else value
        return self._maps[name]

    def _mixed(self, name: str, value: Tensor) -> Tensor:
        if self._moved is None or self._fresh is None:
            return value
        return torch.where(self._fresh[name], value, self._moved[name].to(value.dtype))


class ClipMoves:
    """Where what one clip keeps lies from frame to frame: references rounded as a session's are."""

    def __init__(self, program: TileProgram, height: int, width: int) -> None:
        """``height``, ``width``: of the padded frame."""
        self._program = program
        self._maps = {
            stride: RowMap(height // stride, width // stride, 0)
            for stride in {*program.strides, program.nodes[_score_node(program)].stride}
        }

    def follow(self, motion: Motion) -> Sources:
        """What every position of the next frame shows of this one. ``motion``: a batch of one."""
        sources = {}
        for stride, rows in self._maps.items():
            rows.inner[...] = np.arange(rows.height * rows.width).reshape(rows.height, rows.width)
            rows.move(motion.at_stride(stride, rows.height, rows.width).numpy()[0])
            sources[stride] = torch.from_numpy(rows.inner.astype(np.int64).ravel())
        return sources

    def computed(self, keep: Mask) -> None:
        """Bins in which something is kept, bool [units, bins_h, bins_w], lie where they should again."""
        touched = keep.any(axis=0)
        for stride, rows in self._maps.items():
            if rows.remainder is not None:
                side = self._program.tile(stride)
                fresh = touched.repeat(side, 0).repeat(side, 1)[: rows.height, : rows.width]
                rows.remainder[fresh] = 0.0


def spread(bins: Tensor, side: int, height: int, width: int) -> Tensor:
    """[N, height, width] of [N, bins_h, bins_w]: every bin over ``side`` x ``side`` positions of a map."""
    return bins.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, :height, :width]


def _score_node(program: TileProgram) -> str:
    """The last map that is computed; the network's upsampling of it to full resolution is left out."""
    final = program.nodes[program.output]
    return final.inputs[0] if is_plain_upsampling(final) else final.name


def _computes(graph: fx.GraphModule, names: dict[str, int]) -> dict[str, str]:
    """By node of the unfolded graph, the map whose value it computes."""
    nodes = {node.name: node for node in graph.graph.nodes}
    found = {}
    for name in names:
        if name not in nodes:
            raise LoweringError(f"node {name}: cannot be found again with its batch norm unfolded")
        found[_behind_norm(graph, nodes[name]).name] = name
    return found


def _behind_norm(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The batch norm that the engine folds into a convolution, or the node itself."""
    users = list(node.users)
    if node.op != "call_module" or not isinstance(graph.get_submodule(str(node.target)), nn.Conv2d):
        return node
    if len(users) != 1 or users[0].op != "call_module":
        return node
    behind = graph.get_submodule(str(users[0].target))
    folds = isinstance(behind, nn.BatchNorm2d) and behind.track_running_stats
    return users[0] if folds else node
