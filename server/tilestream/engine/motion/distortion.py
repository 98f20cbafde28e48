"""What motion compensation leaves unexplained, accumulated since each place was last computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tilestream.engine.motion.estimators import BoolArray, Motion, continued, displace, warp
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

_UNEXPLAINED = 24.0
"""Luma steps, mean of a cell, that motion does not leave behind."""

_CUT_SHARE = 0.25
"""Share of unexplained cells that makes a scene cut.

At 15 Hz the share stays below 0.11 in driving clips (0.2 when the exposure jumps); between unrelated
streets it is 0.35 to 0.8.
"""

_CUT_CONTRAST = 0.3
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
    """What is known of every bin before anything is computed; arrays are float32 [bins_h, bins_w].

    ``distortion``: luma steps 0.., accumulated along the motion since last computed, mean of the bin.
    ``current``: luma steps, what this frame alone added to it.
    ``peak``: luma steps, ``distortion`` of that sixteenth of the bin where it is highest.
    ``age``: frames since last computed, mean over what moved into the bin.
    ``motion``: mean length of the motion in image pixels.
    ``occluded``: share 0..1 of the pixels that nothing in the previous frame explains.
    ``scene_cut``: the previous frame has too little to do with this one to reuse any of it.
    """

    distortion: Float32Array
    current: Float32Array
    peak: Float32Array
    age: Float32Array
    motion: Float32Array
    occluded: Float32Array
    scene_cut: bool


class DistortionTracker:
    """One session's distortion and age, which travel along the motion from frame to frame.

    For every frame but a session's first: :meth:`advance`, then :meth:`computed` with what the gate
    chose, or :meth:`reset` where that is a key frame.
    """

    def __init__(self, bin_size: int, bins: tuple[int, int], scale: int) -> None:
        """``bin_size``: image pixels, a multiple of ``scale``. ``bins``: rows and columns of the grid.

        ``scale``: image pixels per thumbnail pixel.
        """
        if bin_size <= 0 or bin_size % scale:
            raise ValueError(f"bins of {bin_size} pixels are no multiple of the thumbnail's scale {scale}")
        per_bin = bin_size // scale
        self._bins = bins
        self._scale = scale
        self._cell = _CELL if per_bin % _CELL == 0 else 1
        self._cells_per_bin = per_bin // self._cell
        self._parts = max(n for n in range(1, _PARTS + 1) if self._cells_per_bin % n == 0)
        self._limit = (bins[0] * per_bin, bins[1] * per_bin)
        self._shape: tuple[int, ...] = ()
        # distortion and age of every cell, and how much of every bin and part the frame covers
        self._state: Float32Array = np.zeros((0, 0, 2), dtype=np.float32)
        self._bin_cover: Float32Array = self._state
        self._part_cover: Float32Array = self._state
        self._maps: Float32Array = self._state  # of the latest advance

    def advance(self, previous: UInt8Array, current: UInt8Array, motion: Motion) -> BinSignals:
        """One frame on: moves the state, adds what this frame leaves unexplained, and one to the age.

        ``previous``, ``current``: luma thumbnails uint8 [h, w], of one size for all of a session.
        Raises ValueError where that or ``motion`` does not fit.
        """
        self._check(previous, current, motion)
        if motion.still:
            self._maps = np.zeros((*self._state.shape[:2], 5), dtype=np.float32)
            self._state[..., 1] += 1
            self._maps[..., 0], self._maps[..., 2] = self._state[..., 0], self._state[..., 1]
            return self._signals(scene_cut=False)
        height, width = self._state.shape[:2]
        residual = motion.residual
        if residual is None:
            residual = np.asarray(cv2.absdiff(current, warp(previous, motion)), dtype=np.uint8)
        raw = self._cells(residual)
        occluded = self._cells(motion.occluded.view(np.uint8))
        flow = motion.at_stride(self._scale * self._cell, height, width)
        added = np.maximum(
            np.maximum(raw - np.float32(NOISE_FLOOR), np.float32(0)), STRONG_RESIDUAL * occluded
        )
        moved = displace(self._state, flow)
        distortion = moved[..., 0] + added
        age = np.maximum(moved[..., 1] + np.float32(1), OCCLUDED_AGE * occluded)
        self._state = np.stack([distortion, age], axis=2)
        speed = cv2.magnitude(flow[..., 0].copy(), flow[..., 1].copy()) * (self._scale * self._cell)
        self._maps = np.stack([distortion, added, age, speed, occluded], axis=2)
        return self._signals(_is_cut(raw, occluded, current))

    def _signals(self, scene_cut: bool) -> BinSignals:
        means = self._pooled(self._maps, 1, self._bin_cover)
        return BinSignals(
            distortion=means[..., 0],
            current=means[..., 1],
            peak=self._peaks(self._maps[..., 0]),
            age=means[..., 2],
            motion=means[..., 3],
            occluded=means[..., 4],
            scene_cut=scene_cut,
        )

    def maps(self) -> tuple[Float32Array, int]:
        """What the latest :meth:`advance` found, finer than bins: float32 [h, w, 5], pixels on a cell's side.

        Channels: distortion, current, age, motion, occluded, as in :class:`BinSignals`.
        """
        return self._maps, self._scale * self._cell

    def computed(self, keep: BoolArray) -> None:
        """The bins that ``keep``, bool [bins_h, bins_w], names are fresh: no distortion, age 0."""
        if keep.shape != self._bins:
            raise ValueError(f"the mask is {keep.shape}, the bins are {self._bins}")
        height, width = self._state.shape[:2]
        fresh = keep.repeat(self._cells_per_bin, axis=0).repeat(self._cells_per_bin, axis=1)
        self._state[fresh[:height, :width]] = 0

    def reset(self) -> None:
        """A key frame: everything is fresh."""
        self._state[...] = 0

    def _check(self, previous: UInt8Array, current: UInt8Array, motion: Motion) -> None:
        shapes = {previous.shape, current.shape, motion.flow.shape[:2], motion.occluded.shape}
        if len(shapes) > 1 or motion.scale != self._scale:
            raise ValueError(
                f"thumbnails and motion must match in size and scale {self._scale}: "
                f"{sorted(shapes)}, scale {motion.scale}"
            )
        if current.shape == self._shape:
            return
        if self._shape:
            raise ValueError(f"the thumbnails were {self._shape}, not {current.shape}")
        if current.shape[0] > self._limit[0] or current.shape[1] > self._limit[1]:
            raise ValueError(f"thumbnails {current.shape} do not fit into bins that cover {self._limit}")
        self._shape = current.shape
        height, width = (-(-side // self._cell) for side in current.shape)
        self._state = np.zeros((height, width, 2), dtype=np.float32)
        ones, whole = np.ones((height, width, 1), dtype=np.float32), np.float32(1)
        self._bin_cover = self._pooled(ones, 1, whole)
        self._part_cover = self._pooled(ones, self._parts, whole)

    def _cells(self, pixels: UInt8Array) -> Float32Array:
        """Means over the cells, float32, of ``pixels`` uint8 [h, w]; an odd edge is replicated."""
        values = pixels.astype(np.float32)
        height, width = self._state.shape[:2]
        values = continued(values, height * self._cell, width * self._cell)
        return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA), dtype=np.float32)

    def _pooled(
        self, maps: Float32Array, parts: int, cover: Float32Array | np.float32
    ) -> npt.NDArray[np.float32]:
        """Means of ``maps`` [cells_h, cells_w, C] over bins cut into ``parts`` x ``parts``.

        Float32 [bins_h * parts, bins_w * parts, C]. ``cover``: the share of each that lies in the frame,
        so that what lies outside does not thin the mean; a part wholly outside is 0.
        """
        rows, columns = self._bins
        padded = np.zeros(
            (rows * self._cells_per_bin, columns * self._cells_per_bin, maps.shape[2]), dtype=np.float32
        )
        padded[: maps.shape[0], : maps.shape[1]] = maps
        means = cv2.resize(padded, (columns * parts, rows * parts), interpolation=cv2.INTER_AREA)
        means = means.reshape(rows * parts, columns * parts, maps.shape[2])
        return np.asarray(means / np.maximum(cover, 1e-6), dtype=np.float32)

    def _peaks(self, distortion: Float32Array) -> Float32Array:
        """Float32 [bins_h, bins_w]: the highest mean among the parts of each bin."""
        means = self._pooled(distortion[..., None], self._parts, self._part_cover)
        rows, columns = self._bins
        return np.asarray(means.reshape(rows, self._parts, columns, self._parts).max(axis=(1, 3)))


def _is_cut(residual: Float32Array, occluded: Float32Array, current: UInt8Array) -> bool:
    """Whether two frames have too little in common, by the residual and occlusion of the cells."""
    unexplained = (residual > _UNEXPLAINED) | (occluded > 0.5)
    if np.count_nonzero(unexplained) > _CUT_SHARE * unexplained.size:
        return True
    excess = float(residual.mean()) - NOISE_FLOOR
    contrast: Any = cv2.meanStdDev(current)[1]
    # the first bound keeps noise in the dark from being a cut
    return excess > max(NOISE_FLOOR, _CUT_CONTRAST * float(contrast[0, 0]))
