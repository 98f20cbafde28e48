"""Training under masks: every step plays a whole frame and partial ones behind it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilestream.engine.arrays import Mask
from tilestream.engine.gates.registry import motion_for_bins
from tilestream.engine.motion.luma import thumbnail_scale, thumbnails
from tilestream_training import losses
from tilestream_training.datasets.base import IGNORE_LABEL
from tilestream_training.masked_clips import (
    MOST_PARTIAL,
    Clip,
    as_sent,
    cut,
    draw_bins,
    draw_times,
    drive_through,
    same_view,
)
from tilestream_training.masked_network import ClipMoves, MaskedNetwork, PlayedFrames, Sources, spread
from tilestream_training.sampling import Source
from tilestream_training.trainer import Trainer, TrainOptions


@dataclass(frozen=True, slots=True)
class MaskedOptions:
    """``street_share``: of the clips, the rest are stills driven through. ``dense_weight``: of the whole
    frame's loss beside the mean of the partial ones'. ``partial_frames``: at most so many follow it.
    ``keep``: least and greatest share of the bins that one of them computes. ``label_weight``: of the true
    labels' loss beside the teacher's. ``noise``: greatest standard deviation, luma steps, of what is added
    to every frame; the teacher sees them without. ``teacher_zoom``: unless it is 1, the teacher also looks at
    the frame mirrored and so many times as large, and the mean of both is learned. ``blend``: share of the
    trained weights in the result, the rest being those of the start: what is right already is kept, some of
    what is learned, too (Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv 2109.01903).
    """

    street_share: float = 0.3
    dense_weight: float = 0.5
    partial_frames: int = 4
    keep: tuple[float, float] = (0.1, 0.6)
    bin_size: int = 64
    label_weight: float = 1.0
    noise: float = 3.0
    teacher_zoom: float = 1.0
    blend: float = 1.0


@dataclass(frozen=True, slots=True)
class PlayedClips:
    """A batch on its way: ``images`` uint8 [T, N, H, W, 3], ``clear``, the same without noise, ``labels``
    int64 [T, N, H, W], and for every frame but the first what its maps show of the one before, and what is
    kept of it.
    """

    images: Tensor
    clear: Tensor
    labels: Tensor
    sources: list[list[Sources]]
    keep: list[list[Mask]]


class MaskedTrainer(Trainer):
    """Goes on with a trained network; the teacher is the network that it starts from, on whole frames.

    Batch norms keep to their statistics. As with :class:`Trainer`, what a step sees depends on the seed and
    the step only.
    """

    def __init__(
        self,
        model: nn.Module,
        sources: Sequence[Source],
        streets: Sequence[Clip],
        options: TrainOptions,
        masked: MaskedOptions,
        run_directory: Path,
        num_classes: int,
        teacher: nn.Module,
    ) -> None:
        """``sources``: stills to drive through.

        Raises ValueError for clips longer than streets are, and where nothing has a weight.
        """
        if not 1 <= masked.partial_frames <= MOST_PARTIAL:
            raise ValueError(f"partial frames: {masked.partial_frames}; allowed: 1 to {MOST_PARTIAL}")
        if not (masked.label_weight or options.distillation_weight):
            raise ValueError("nothing to learn from: labels and teacher both have a weight of 0")
        if not 0 < masked.blend <= 1:
            raise ValueError(f"blend: {masked.blend}; allowed: above 0 up to 1")
        self._start = copy.deepcopy(model)
        super().__init__(model, sources, options, run_directory, num_classes)
        self.masked, self.streets = masked, streets
        self.network = MaskedNetwork(self.model, masked.bin_size)
        tutor = teacher.to(self.device).eval().requires_grad_(False)
        self._teacher_network = MaskedNetwork(tutor, masked.bin_size)
        self._motion = motion_for_bins()  # what the engine's partial frames go by

    def run(self, save_every: int = 50, until: int | None = None) -> nn.Module:
        """As :meth:`Trainer.run`, blended with the start."""
        return blended(self._start, super().run(save_every, until), self.masked.blend)

    def draw(self) -> PlayedClips:
        """The batch of the present step."""
        options, rng = self.options, np.random.default_rng((self.options.seed, self.step))
        length = 1 + int(rng.integers(1, self.masked.partial_frames + 1))
        clips = [self._draw_clip(length, rng) for _ in range(options.batch)]
        sent = [as_sent(clip.images, self.masked.noise, rng) for clip in clips]
        height, width = options.augment.crop
        moves = [ClipMoves(self.network.program, height, width) for _ in clips]
        sources: list[list[Sources]] = []
        keep: list[list[Mask]] = []
        scale = thumbnail_scale(height, width)
        lumas = [thumbnails(list(torch.from_numpy(images)), scale) for images in sent]
        flows = [torch.zeros((1, *luma.shape[1:], 2)) for luma in lumas]
        units, bins = len(self.network.program.units), self.network.program.bins(height, width)
        for time in range(1, length):
            sources.append([])
            keep.append([])
            for index, (clip, followed) in enumerate(zip(clips, moves, strict=True)):
                before, now = (lumas[index][t : t + 1] for t in (time - 1, time))
                motion = self._motion.estimate(before, now, flows[index], scale)
                flows[index] = motion.flow
                sources[-1].append(followed.follow(motion))
                labels = clip.labels[time]
                mask = draw_bins(bins, units, motion, labels, self.masked.bin_size, self.masked.keep, rng)
                followed.computed(mask)
                keep[-1].append(mask)
        return PlayedClips(
            torch.from_numpy(np.stack(sent, axis=1)),
            torch.from_numpy(np.stack([clip.images for clip in clips], axis=1)),
            torch.from_numpy(np.stack([clip.labels for clip in clips], axis=1)).long(),
            sources,
            keep,
        )

    def _draw_clip(self, length: int, rng: np.random.Generator) -> Clip:
        times = draw_times(length, rng)
        if self.streets and rng.random() < self.masked.street_share:
            clip = cut(self.streets[int(rng.integers(len(self.streets)))], times, rng)
        else:
            shares = np.array([source.share for source in self.sources])
            source = self.sources[int(rng.choice(len(shares), p=shares / shares.sum()))]
            present = [holders for holders in source.holders if holders]
            holders = present[int(rng.integers(len(present)))]  # a class first, so that rare ones come up
            clip = drive_through(source.samples[int(rng.choice(holders))], times, rng)
        return same_view(clip, self.options.augment, rng)

    def _losses(self) -> Tensor:
        batch, options = self.draw(), self.options
        with torch.autocast(self.device.type, torch.bfloat16, enabled=options.precision == "bf16"):
            played = [self.network.dense(self._seen(batch.images[0]))]
            for images, sources, keep in zip(batch.images[1:], batch.sources, batch.keep, strict=True):
                moved = played[-1].moved(self.network.strides, sources)
                played.append(self.network.partial(self._seen(images), moved, keep))
        everywhere = [np.ones_like(mask) for mask in batch.keep[0]]
        whole = self._frame_loss(played[0], batch, 0, everywhere)
        partial = [
            self._frame_loss(frame, batch, time, keep)
            for time, (frame, keep) in enumerate(zip(played[1:], batch.keep, strict=True), start=1)
        ]
        return torch.stack(partial).mean() + self.masked.dense_weight * whole

    def _seen(self, images: Tensor) -> Tensor:
        x = images.to(self.device).permute(0, 3, 1, 2).to(memory_format=torch.channels_last)
        return (x.float() / 255.0 - self.mean) / self.std

    def _frame_loss(self, played: PlayedFrames, batch: PlayedClips, time: int, keep: list[Mask]) -> Tensor:
        """Cross-entropy with the labels and divergence from the teacher, in the kept bins."""
        bins = torch.from_numpy(np.stack([mask.any(axis=0) for mask in keep])).to(self.device)
        scores, terms = played.scores.float(), []
        if self.masked.label_weight:
            labels = batch.labels[time].to(self.device)
            terms.append(self.masked.label_weight * self._label_loss(scores, labels, bins))
        if self.options.distillation_weight:
            taught = self._teacher_loss(scores, batch.clear[time], bins)
            terms.append(self.options.distillation_weight * taught)
        return torch.stack(terms).sum()

    def _label_loss(self, scores: Tensor, labels: Tensor, bins: Tensor) -> Tensor:
        height, width = labels.shape[1:]
        kept = spread(bins, self.masked.bin_size, height, width)
        factor = min(2, self.network.score_stride)
        fine = F.interpolate(scores, scale_factor=float(factor), mode="bilinear", align_corners=False)
        size = (fine.shape[-2], fine.shape[-1])
        step = width // size[1]
        offset = (self.step % step, self.step // step % step)
        wanted = losses.sampled_labels(labels.masked_fill(~kept, IGNORE_LABEL), size, offset)
        return losses.cross_entropy(fine, wanted, self.weights)

    def _teacher_loss(self, scores: Tensor, images: Tensor, bins: Tensor) -> Tensor:
        target = self._taught(self._seen(images))
        height, width = scores.shape[2:]
        kept = spread(bins, self.masked.bin_size // self.network.score_stride, height, width)
        chosen, wanted = (values.permute(0, 2, 3, 1)[kept] for values in (scores, target))
        return losses.distillation(chosen, wanted)

    @torch.no_grad()
    def _taught(self, x: Tensor) -> Tensor:
        """The teacher's scores, float32, of frames [N, 3, H, W] in full."""
        zoom, mixed = self.masked.teacher_zoom, self.options.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
            plain = self._teacher_network.dense(x).scores.float()
            if zoom == 1.0:
                return plain
            step = self.masked.bin_size
            size = [max(1, round(zoom * side / step)) * step for side in x.shape[2:]]
            large = F.interpolate(x, size=size, mode="bilinear", align_corners=False).flip(3)
            mirrored = self._teacher_network.dense(large).scores.float().flip(3)
        again = F.interpolate(mirrored, size=plain.shape[2:], mode="bilinear", align_corners=False)
        return (0.5 * (plain.softmax(dim=1) + again.softmax(dim=1))).clamp_min(1e-9).log()

    def _set_training_mode(self) -> None:
        self.model.eval()


@torch.no_grad()
def blended(start: nn.Module, trained: nn.Module, share: float) -> nn.Module:
    """A network whose weights are ``share`` of the ``trained`` ones' and the rest of the ``start``'s."""
    result, begin = copy.deepcopy(trained), start.state_dict()
    for name, value in result.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.lerp(begin[name].to(value), value, share))
    return result
