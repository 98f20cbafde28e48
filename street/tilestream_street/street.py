"""The synthetic street as a source of frames with exact labels and motion."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilestream_street.camera import Camera, intrinsics, look
from tilestream_street.chunk import Chunk, ChunkBuilder
from tilestream_street.finish import Finish
from tilestream_street.motion import motion_between
from tilestream_street.props import shared_props
from tilestream_street.raster import Raster, View
from tilestream_street.route import CHUNK_LENGTH, Drive, Route
from tilestream_street.seeding import Topic, generator
from tilestream_street.sky import Backdrop
from tilestream_street.style import make_style
from tilestream_street.surface import Floats, Quads
from tilestream_street.traffic import AHEAD, BEHIND, Moving, Traffic

_ORIGIN = 3.3 * CHUNK_LENGTH
_KEPT_VIEWS = 2
_KEPT_CHUNKS = 64


@dataclass(frozen=True, slots=True)
class StreetFrame:
    """One frame with its ground truth."""

    image: NDArray[np.uint8]
    """uint8 [H, W, 3], RGB."""
    labels: NDArray[np.uint8]
    """uint8 [H, W], indices into `CLASS_NAMES`."""
    motion: NDArray[np.float32]
    """float32 [H, W, 2], (dx, dy) pixels: what is at (x, y) was at (x + dx, y + dy) in the previous
    frame; zeros for frame 0."""
    visible: NDArray[np.bool_]
    """bool [H, W]: that point was in view and not hidden in the previous frame; False on frame 0."""


class SyntheticStreet:
    """An endless procedural street, driven through with a camera; any frame can be asked for.

    The same seed, size, rate and index give the same bytes. Keeps the latest views and pieces of
    street, so frames in order cost one rendering each, frames out of order two.
    """

    def __init__(
        self, seed: int, width: int = 480, height: int = 360, fps: float = 15.0, *, noise: bool = True
    ) -> None:
        """`noise` False leaves out the sensor's noise, for measuring motion."""
        if width < 16 or height < 16:
            raise ValueError(f"a street needs at least 16 x 16 pixels, not {width} x {height}")
        if not fps > 0:
            raise ValueError(f"fps must be positive, not {fps}")
        self.seed, self.width, self.height, self.fps = seed, width, height, fps
        self._style = make_style(seed)
        self._route = Route(seed, self._style.bendiness)
        self._drive = Drive(seed, self._style.cruise, self._style.stops)
        self._props = shared_props(seed)
        self._traffic = Traffic(seed, self._style, self._props, self._route, self._drive, _ORIGIN)
        self._backdrop = Backdrop(generator(seed, Topic.SKY), self._style)
        self._raster = Raster(width, height)
        self._finish = Finish(seed, self._style, width, height, noise)
        self._intrinsics = intrinsics(width, height, self._style.fov, self._style.horizon)
        self._sway = generator(seed, Topic.DRIVE, -1).uniform(0, 2 * np.pi, 8)
        self._chunks: OrderedDict[int, Chunk] = OrderedDict()
        self._views: OrderedDict[int, View] = OrderedDict()
        self._movings: OrderedDict[int, Moving] = OrderedDict()

    def frame(self, t: int) -> StreetFrame:
        """Frame `t` (from 0)."""
        if t < 0:
            raise ValueError(f"frames count from 0, not {t}")
        previous = self._view(t - 1) if t > 0 else None
        view = self._view(t)
        image = self._finish.apply(view.colour, view.inverse_depth, t)
        labels = view.labels.copy()  # the view is kept and may serve again
        if previous is None:
            still = np.zeros((self.height, self.width, 2), dtype=np.float32)
            return StreetFrame(image, labels, still, np.zeros((self.height, self.width), dtype=np.bool_))
        motion, visible = motion_between(view, previous, self._moved(previous, view, t - 1))
        return StreetFrame(image, labels, motion, visible)

    def frames(self, count: int, start: int = 0) -> Iterator[StreetFrame]:
        """`count` frames from `start` on, in order."""
        for t in range(start, start + count):
            yield self.frame(t)

    def _camera(self, t: int) -> Camera:
        seconds = t / self.fps
        style, sway = self._style, self._sway
        metres, speed = self._drive.at(seconds)
        (x, z), heading = self._route.pose(_ORIGIN + metres)
        d = style.drive_side * style.lane / 2 + 0.15 * np.sin(0.3 * seconds + sway[0])
        lively = min(1.0, speed / 6.0)
        yaw = heading + 0.025 * np.sin(0.35 * seconds + sway[1]) * lively
        # springs and road: small, quick, and still while the car stands
        bob = 0.0035 * np.sin(7.5 * seconds + sway[2]) + 0.002 * np.sin(12.1 * seconds + sway[3])
        pitch = style.pitch + bob * lively
        roll = 0.004 * np.sin(2.1 * seconds + sway[4]) * lively
        height = style.camera_height + 0.012 * np.sin(8.3 * seconds + sway[5]) * lively
        position = np.array([x + d * np.cos(heading), -height, z - d * np.sin(heading)])
        return look(position, yaw, pitch, roll, self._intrinsics)

    def _chunk(self, index: int) -> Chunk:
        chunk = self._chunks.pop(index, None)
        if chunk is None:
            chunk = ChunkBuilder(self.seed, self._style, self._props, self._route, index).build()
        self._chunks[index] = chunk
        if len(self._chunks) > _KEPT_CHUNKS:
            self._chunks.popitem(last=False)
        return chunk

    def _moving(self, t: int) -> Moving:
        moving = self._movings.pop(t, None)
        if moving is None:
            moving = self._traffic.at(t / self.fps)
        self._movings[t] = moving
        if len(self._movings) > _KEPT_VIEWS + 1:
            self._movings.popitem(last=False)
        return moving

    def _view(self, t: int) -> View:
        view = self._views.pop(t, None)
        if view is None:
            camera = self._camera(t)
            seconds = t / self.fps
            here = _ORIGIN + self._drive.at(seconds)[0]
            quads, decals = Quads(), []
            moving = self._moving(t)
            uprights = list(moving.uprights)
            for index in range(int((here - BEHIND) // CHUNK_LENGTH), int((here + AHEAD) // CHUNK_LENGTH) + 1):
                chunk = self._chunk(index)
                quads.extend(chunk.quads)
                decals += chunk.decals
                uprights += chunk.uprights
                for item in chunk.fixed:
                    if item.shown(camera):
                        quads.add(item.frame, item.key, item.label, item.texture)
            quads.extend(moving.quads)
            for upright in uprights:
                frame = upright.frame(camera)
                if frame is not None:
                    quads.add(frame, upright.key, upright.label, upright.texture)
            view = self._raster.render(camera, quads, decals + moving.decals, self._backdrop)
        self._views[t] = view
        while len(self._views) > _KEPT_VIEWS:
            self._views.popitem(last=False)
        return view

    def _moved(self, previous: View, current: View, t: int) -> dict[int, Floats]:
        """Frames in the `previous` view (frame `t`) of the quads that move or turn towards the camera."""
        moving = self._moving(t)
        seen = set(current.keys[current.seen].tolist())
        moved = {k: f for k, f in zip(moving.quads.keys, moving.quads.frames, strict=True) if k in seen}
        gone = np.zeros((4, 3))
        uprights = {u.key: u for u in moving.uprights}
        for index in {key >> 16 for key in seen if key < 1 << 50 and key >= 1 << 16}:
            uprights.update((u.key, u) for u in self._chunk(index).uprights)
        for key in seen:
            if key in uprights:
                frame = uprights[key].frame(previous.camera)
                moved[key] = gone if frame is None else frame
            elif key >= 1 << 50 and key not in moved:
                moved[key] = gone
        return moved
