"""The dense path: whole frames through the whole network. Also the reference for everything partial."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from tilestream.engine.dense.fused import fuse_convolutions
from tilestream.engine.dense.labels import is_plain_upsampling, margin, upsampled_labels, with_rim
from tilestream.engine.dense.normalize import Normalizer
from tilestream.engine.dense.packed import pack_convolutions
from tilestream.engine.lowering.lower import lower
from tilestream.engine.lowering.program import TileProgram
from tilestream.messages import UInt8Array


class DenseExecutor:
    """Runs a segmentation network on batches of equally large frames.

    ``model``: an eval-mode module with ``stride``, ``mean`` and ``std`` (see ``load_model``). ``program``: of
    that model; with ``keep`` the maps that it keeps are returned too.
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
        program: TileProgram | None = None,
        normalize: Normalizer | None = None,
        keep: bool = False,
    ) -> None:
        self.device, self.dtype = device, dtype
        program = program or lower(model)
        self.stride = program.stride
        self.kept = [node.name for node in program.kept] if keep else []
        """Names of the maps that the network gives beside the scores, which come last."""
        final = program.nodes[program.output]
        plain = is_plain_upsampling(final)
        self.score_stride: int = final.operation.factor if plain else 1  # type: ignore[union-attr]
        """Image pixels per pixel of the scores, which are upsampled at the end."""
        self._quick = device.type == "cpu"
        network = _with_outputs(program, [*self.kept, final.inputs[0] if plain else final.name])
        self.network = network.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if device.type == "cpu" and torch.backends.mkldnn.is_available():
            self.network = pack_convolutions(self.network)
        elif device.type == "cuda" and torch.backends.cudnn.is_available():
            self.network = fuse_convolutions(self.network)
        self.normalize = normalize or Normalizer(model.mean, model.std, device, dtype)  # type: ignore[arg-type]

    @torch.inference_mode()
    def scores(self, images: list[Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Run the network on frames, uint8 [H, W, 3] RGB on the host, all of one size.

        Returns the maps [N, C, H', W'] that a session keeps, by name, and the class scores [N, C, h, w] at
        ``score_stride``; both of the padded frames, on the device.
        """
        *kept, scores = self.network(self.normalize.whole(images, self.stride))
        return dict(zip(self.kept, kept, strict=True)), scores

    @torch.inference_mode()
    def labelled(self, scores: Tensor, size: tuple[int, int], want_confidence: bool) -> list[Tensor]:
        """Labels and, if wanted, confidence, uint8 [N, H, W] each on the device, from scores.

        ``size``: H, W of the frames.
        """
        height, width = size
        return [plane[:, :height, :width] for plane in self._labels(scores, want_confidence)]

    def run(self, images: list[UInt8Array], want_confidence: bool = False) -> list[Tensor]:
        """Segment frames, uint8 [H, W, 3] RGB, all of one size; returns as :meth:`labelled`."""
        pixels = [torch.from_numpy(np.require(image, requirements=["C", "W"])) for image in images]
        return self.labelled(self.scores(pixels)[1], images[0].shape[:2], want_confidence)

    def labels(self, image: UInt8Array) -> UInt8Array:
        """Labels uint8 [H, W] of one frame."""
        return self.run([image])[0][0].cpu().numpy()

    def _labels(self, logits: Tensor, want_confidence: bool) -> list[Tensor]:
        """uint8 labels and, if wanted, confidence [N, H', W'] from logits at 1 / stride of that size."""
        factor = self.score_stride
        if factor > 1 and self._quick and not want_confidence:
            return [upsampled_labels(with_rim(logits), factor)]
        if factor > 1:
            logits = F.interpolate(logits, scale_factor=factor, mode="bilinear", align_corners=False)
        labels = logits.max(dim=1).indices.to(torch.uint8)  # faster than argmax, and the same
        return [labels, margin(logits)] if want_confidence else [labels]


def _with_outputs(program: TileProgram, names: list[str]) -> fx.GraphModule:
    """The program's graph, returning the named maps."""
    network = copy.deepcopy(program.graph)
    nodes = {node.name: node for node in network.graph.nodes}
    output = next(node for node in network.graph.nodes if node.op == "output")
    output.args = (tuple(nodes[name] for name in names),)
    network.graph.eliminate_dead_code()
    network.recompile()
    return network
