"""What motion compensation leaves unexplained, accumulated since each place was last computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from tilestream.engine.arrays import Maps, Mask
from tilestream.engine.motion.flow import Motion
from tilestream.engine.motion.warp import absolute_difference, displace, warp
from tilestream.messages import Float32Array, UInt8Array

NOISE_FLOOR = 3.0
"""Luma steps that every cell's residual is reduced by.

Two frames of a still scene differ by the noise of sensor and JPEG, some 1.5 to 3 steps on average, and
what is summed over hundreds of frames must not grow from that. It is subtracted from the mean over a
cell, where noise is its mean and peaks do not pass; on clips with known labels this picks better bins
than a floor for every pixel does (3 to 4 steps were best).
"""

STRONG_RESIDUAL = 30.0
"""Luma steps an occluded pixel counts as at least: the residual at the border of two things."""

OCCLUDED_AGE = 30.0
"""Frames an occluded pixel is at least old: nothing was ever computed there."""

UNEXPLAINED = 24.0
"""Luma steps, mean of a cell, that motion does not leave behind."""

CUT_SHARE = 0.25
"""Share of unexplained cells that makes a scene cut.

At 15 Hz the share stays below 0.11 in driving clips (0.2 when the exposure jumps); between unrelated
streets it is 0.35 to 0.8.
"""

CUT_CONTRAST = 0.3
"""A mean residual, less the noise floor, of this share of the luma's standard deviation is a cut, too.

In the dark, even two pictures that have nothing in common differ by few steps. Driving clips stay below
0.11, with strong noise below 0.23; unrelated streets begin at 0.33, at 30 % of full contrast, too.
"""

_CELL = 2
"""Thumbnail pixels on a side of the cells that the state is kept in: a quarter of the cost of keeping
it for every pixel, and nothing lost in which bins get picked."""

_PARTS = 4
"""A bin's peak is looked for among this many parts on each side."""


@dataclass(frozen=True, slots=True)
class BinSignals:
    """What is known of every bin of N frames before anything is computed: float32 [N, bins_h, bins_w] each.

    ``distortion``: luma steps 0.., accumulated along the motion since last computed, mean of the bin.
    ``current``: luma steps, what this frame alone added to it.
    ``peak``: luma steps, ``distortion`` of that sixteenth of the bin where it is highest.
    ``age``: frames since last computed, mean over what moved into the bin.
    ``motion``: mean length of the motion in image pixels.
    ``occluded``: share 0..1 of the pixels that nothing in the previous frame explains.
    ``scene_cut``: bool [N], the previous frame has too little to do with this one to reuse any of it.
    """

    distortion: Tensor
    current: Tensor
    peak: Tensor
    age: Tensor
    motion: Tensor
    occluded: Tensor
    scene_cut: Tensor

    def of(self, frames: slice | list[int]) -> BinSignals:
        """Those of some of the frames; views where ``frames`` is a slice."""
        if len(self.age) == 1:
            return self
        return BinSignals(*(getattr(self, name)[frames] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Distortion:
    """What :meth:`DistortionTracker.advance` found.

    ``state``: float32 [N, h, w, 2], distortion and age of every cell, which travel on to the next frame.
    ``fine``: float32 [N, h, w, 5], distortion, current, age, motion, occluded of every cell, as in the bins'
    ``signals``.
    """

    state: Tensor
    fine: Tensor
    signals: BinSignals

    def of(self, frames: slice | list[int]) -> Distortion:
        """What was found of some of the frames; views where ``frames`` is a slice."""
        return Distortion(self.state[frames], self.fine[frames], self.signals.of(frames))


@dataclass(frozen=True, slots=True)
class CellLayout:
    """The cells that distortion is kept in.

    ``cell``: thumbnail pixels on a side of one; ``cells``: their rows and columns; ``per_bin``: cells on a
    side of a bin, in which its peak is looked for among ``parts`` x ``parts``.
    """

    cell: int
    cells: tuple[int, int]
    per_bin: int
    parts: int

    @classmethod
    def of(cls, bin_size: int, bins: tuple[int, int], scale: int, shape: tuple[int, int]) -> CellLayout:
        """For thumbnails of ``shape``; raises ValueError where these do not fit together.

        ``bin_size``: image pixels, a multiple of ``scale``. ``bins``: rows and columns of the grid.
        """
        if bin_size <= 0 or bin_size % scale:
            raise ValueError(f"bins of {bin_size} pixels are no multiple of the thumbnail's scale {scale}")
        per_bin = bin_size // scale
        limit = (bins[0] * per_bin, bins[1] * per_bin)
        if shape[0] > limit[0] or shape[1] > limit[1]:
            raise ValueError(f"thumbnails {shape} do not fit into bins that cover {limit}")
        cell = _CELL if per_bin % _CELL == 0 else 1
        parts = max(n for n in range(1, _PARTS + 1) if per_bin // cell % n == 0)
        return cls(cell, (-(-shape[0] // cell), -(-shape[1] // cell)), per_bin // cell, parts)


class DistortionTracker:
    """Carries distortion and age along the motion, for frames of one size. Holds nothing of a session.

    A session's state begins with :meth:`start`. For every frame but its first: :meth:`advance`, then
    :meth:`computed` with what was chosen, or :meth:`start` again where that is the whole frame.
    """

    def __init__(self, bin_size: int, bins: tuple[int, int], scale: int, shape: tuple[int, int]) -> None:
        """``bin_size``: image pixels, a multiple of ``scale``. ``bins``: rows and columns of the grid.

        ``scale``: image pixels per thumbnail pixel. ``shape``: of the thumbnails. Raises as
        :meth:`CellLayout.of` does.
        """
        layout = CellLayout.of(bin_size, bins, scale, shape)
        self._bins, self._scale, self._shape = bins, scale, shape
        self._cell, self._cells = layout.cell, layout.cells
        self._cells_per_bin, self._parts = layout.per_bin, layout.parts
        ones, whole = np.ones((*self._cells, 1), dtype=np.float32), np.float32(1)
        # how much of every bin and part the frame covers
        self._bin_cover = np.maximum(self._pooled(ones, 1, whole), 1e-6)
        self._part_cover = np.maximum(self._pooled(ones, self._parts, whole), 1e-6)

    @property
    def cell(self) -> int:
        """Image pixels on a side of a cell."""
        return self._scale * self._cell

    def start(self) -> Tensor:
        """The state of a session whose last frame was computed in full: float32 [h, w, 2], zero."""
        return torch.zeros((*self._cells, 2))

    def advance(self, states: Maps, previous: Tensor, current: Tensor, motion: Motion) -> Distortion:
        """One frame on: moves the states, adds what this frame leaves unexplained, and one to the age.

        ``states``: float32 [N, h, w, 2]. ``previous``, ``current``: luma thumbnails uint8 [N, h, w].
        Raises ValueError where these or ``motion`` do not fit.
        """
        self._check(previous, current, motion)
        residual = motion.residual
        if residual is None:
            residual = absolute_difference(current, warp(previous, motion.flow))
        flow = motion.at_stride(self.cell, *self._cells).numpy()
        state = torch.empty((len(current), *self._cells, 2))
        fine = torch.empty((len(current), *self._cells, 5))
        left, hidden = residual.numpy(), motion.occluded.numpy().view(np.uint8)
        cuts = []
        for index, still in enumerate(motion.is_still()):
            found, maps = state.numpy()[index], fine.numpy()[index]
            if still:
                found[...] = states[index].numpy()
                found[..., 1] += 1
                maps[...] = 0
                maps[..., 0], maps[..., 2] = found[..., 0], found[..., 1]
                cuts.append(False)
                continue
            raw, occluded = self._cell_means(left[index]), self._cell_means(hidden[index])
            self._move(states[index].numpy(), flow[index], raw, occluded, found, maps)
            cuts.append(_is_cut(raw, occluded, current.numpy()[index]))
        return Distortion(state, fine, self._signals(fine, cuts))

    def _move(
        self,
        before: Float32Array,
        flow: Float32Array,
        raw: Float32Array,
        occluded: Float32Array,
        state: Float32Array,
        fine: Float32Array,
    ) -> None:
        """One frame's ``state`` [h, w, 2] and ``fine`` [h, w, 5] from the state ``before``."""
        added = np.maximum(
            np.maximum(raw - np.float32(NOISE_FLOOR), np.float32(0)), STRONG_RESIDUAL * occluded
        )
        moved = displace(before, flow)
        np.add(moved[..., 0], added, out=state[..., 0])
        np.maximum(moved[..., 1] + np.float32(1), OCCLUDED_AGE * occluded, out=state[..., 1])
        fine[..., 0], fine[..., 2] = state[..., 0], state[..., 1]
        fine[..., 1], fine[..., 4] = added, occluded
        x, y = flow[..., 0], flow[..., 1]
        # cv2.magnitude rounds in another way where the arrays lie otherwise in memory
        fine[..., 3] = np.sqrt(x * x + y * y) * np.float32(self.cell)

    def _signals(self, fine: Tensor, cuts: list[bool]) -> BinSignals:
        means = torch.from_numpy(np.stack([self._pooled(m, 1, self._bin_cover) for m in fine.numpy()]))
        return BinSignals(
            distortion=means[..., 0],
            current=means[..., 1],
            peak=torch.from_numpy(np.stack([self._peaks(maps[..., :1]) for maps in fine.numpy()])),
            age=means[..., 2],
            motion=means[..., 3],
            occluded=means[..., 4],
            scene_cut=torch.from_numpy(np.array(cuts)),
        )

    def computed(self, state: Tensor, keep: Mask) -> None:
        """The bins that ``keep``, bool [bins_h, bins_w], names are fresh: no distortion, age 0; in place."""
        if keep.shape != self._bins:
            raise ValueError(f"the mask is {keep.shape}, the bins are {self._bins}")
        height, width = self._cells
        fresh = keep.repeat(self._cells_per_bin, axis=0).repeat(self._cells_per_bin, axis=1)
        state.numpy()[fresh[:height, :width]] = 0

    def _check(self, previous: Tensor, current: Tensor, motion: Motion) -> None:
        shapes = {tuple(t.shape[:3]) for t in (previous, current, motion.flow, motion.occluded)}
        if len(shapes) > 1 or motion.scale != self._scale:
            raise ValueError(
                f"thumbnails and motion must match in size and scale {self._scale}: "
                f"{sorted(shapes)}, scale {motion.scale}"
            )
        if tuple(current.shape[1:]) != self._shape:
            raise ValueError(f"the thumbnails were {self._shape}, not {tuple(current.shape[1:])}")

    def _cell_means(self, pixels: UInt8Array) -> Float32Array:
        """Means over the cells, float32, of ``pixels`` uint8 [h, w]; an odd edge is replicated."""
        height, width = self._cells
        down, right = (n * self._cell - side for n, side in zip(self._cells, pixels.shape, strict=True))
        values = pixels.astype(np.float32)
        if down or right:
            values = cv2.copyMakeBorder(values, 0, down, 0, right, cv2.BORDER_REPLICATE)  # type: ignore[assignment]
        return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA), dtype=np.float32)

    def _pooled(self, maps: Float32Array, parts: int, cover: Float32Array | np.float32) -> Float32Array:
        """Means of ``maps`` [cells_h, cells_w, C] over bins cut into ``parts`` x ``parts``.

        Float32 [bins_h * parts, bins_w * parts, C]. ``cover``: the share of each that lies in the frame,
        so that what lies outside does not thin the mean; a part wholly outside is 0.
        """
        rows, columns = self._bins
        height, width, channels = maps.shape
        side = self._cells_per_bin
        padded = np.zeros((rows * side, columns * side, channels), dtype=np.float32)
        padded[:height, :width] = maps
        means = cv2.resize(padded, (columns * parts, rows * parts), interpolation=cv2.INTER_AREA)
        means = means.reshape(rows * parts, columns * parts, channels)
        return np.asarray(means / cover, dtype=np.float32)

    def _peaks(self, distortion: Float32Array) -> Float32Array:
        """Float32 [bins_h, bins_w]: the highest mean among the parts of each bin."""
        means = self._pooled(distortion, self._parts, self._part_cover)
        rows, columns = self._bins
        return np.asarray(means.reshape(rows, self._parts, columns, self._parts).max(axis=(1, 3)))


def _is_cut(residual: Float32Array, occluded: Float32Array, current: UInt8Array) -> bool:
    """Whether two frames have too little in common, by the residual and occlusion of the cells."""
    unexplained = (residual > UNEXPLAINED) | (occluded > 0.5)
    if np.count_nonzero(unexplained) > CUT_SHARE * unexplained.size:
        return True
    excess = float(residual.mean()) - NOISE_FLOOR
    contrast: Any = cv2.meanStdDev(current)[1]
    # the first bound keeps noise in the dark from being a cut
    return excess > max(NOISE_FLOOR, CUT_CONTRAST * float(contrast[0, 0]))
