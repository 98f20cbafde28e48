"""Z-buffer renderer of textured quads, twice oversampled."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tilestream_street.camera import Camera
from tilestream_street.classes import SKY, TREE
from tilestream_street.sky import Backdrop
from tilestream_street.surface import RIM, Floats, Image, Quads, Texture

SAMPLES = 2
"""Samples per output pixel and direction."""
_NEAR = 0.25
_FAR_OFF = 1e6
"""Samples beyond which corners are pulled in."""
SKY_ID = 0
SKYLINE_ID = 1
FIRST_ID = 2
"""Id of the first quad in the id buffers."""


@dataclass(slots=True)
class View:
    """One frame as rendered: colours and, per output pixel, the quad seen."""

    camera: Camera
    colour: Image
    """uint8 [H, W, 3], before haze, exposure and noise."""
    ids: NDArray[np.int32]
    """int32 [H, W]: `SKY_ID`, `SKYLINE_ID` or `FIRST_ID` + row."""
    planes: NDArray[np.float32]
    """float32 [ids, 3]: 1 / depth of each id is planes @ (x, y, 1); zero for the backdrop."""
    to_pixels: Floats
    """float64 [ids, 3, 3]: (u, v, 1) -> (x, y, 1) up to scale; zero for the backdrop."""
    labels_of: NDArray[np.uint8]
    """uint8 [ids]."""
    keys: NDArray[np.int64]
    """int64 [ids]: the same surface has the same key in every frame."""
    inverse_depth: NDArray[np.float32]
    """float32 [H, W], 1 / m."""
    labels: NDArray[np.uint8]
    """uint8 [H, W]."""
    seen: list[int]
    """The ids that have pixels, ascending."""


@dataclass(slots=True)
class Decal:
    """Light taken from what lies in the quad's plane; `frame` as in `Quads`."""

    frame: Floats
    texture: Texture


def _clipped(corners: Floats) -> Floats:
    """Polygon [N, 3] of (x * depth, y * depth, depth), cut at the near plane."""
    out: list[Floats] = []
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if a[2] >= _NEAR:
            out.append(a)
        if (a[2] >= _NEAR) != (b[2] >= _NEAR):
            out.append(a + (b - a) * ((_NEAR - a[2]) / (b[2] - a[2])))
    return np.array(out).reshape(-1, 3)


class Raster:
    """Renders views of a fixed size."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._xs = (np.arange(width * SAMPLES, dtype=np.float32) + 0.5) / SAMPLES - 0.5
        self._ys = (np.arange(height * SAMPLES, dtype=np.float32) + 0.5) / SAMPLES - 0.5
        # scratch memory for one quad: fresh arrays for each would cost more than the drawing
        samples = width * height * SAMPLES**2
        self._near = np.empty(samples, dtype=np.float32)
        self._mask = np.empty(samples, dtype=np.uint8)
        self._shape = np.empty(samples, dtype=np.uint8)
        self._patch = np.empty(samples * 4, dtype=np.uint8)
        # sample index -> output pixel
        self._to_output = np.array(
            [[1 / SAMPLES, 0, 0.5 / SAMPLES - 0.5], [0, 1 / SAMPLES, 0.5 / SAMPLES - 0.5], [0, 0, 1]]
        )

    def render(self, camera: Camera, quads: Quads, decals: list[Decal], backdrop: Backdrop) -> View:
        width, height = self._width, self._height
        big = (height * SAMPLES, width * SAMPLES)
        colour = backdrop.render(camera, width, height, SAMPLES)
        ids = (colour[..., 3] > 127).astype(np.uint16)
        depth = np.zeros(big, dtype=np.float32)

        frames = np.stack(quads.frames) if len(quads) else np.zeros((0, 4, 3))
        to_pixels = camera.projection @ frames
        unit = np.array([[0.0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]])
        corners = np.einsum("nij,kj->nki", to_pixels, unit)
        # a frame's own scale (trapezoids) leaves pixel / depth ratios alone, but not the depth itself
        corners /= np.einsum("nj,kj->nk", frames[:, 3], unit)[..., None]
        determinant = np.linalg.det(to_pixels)
        usable = (corners[..., 2].max(axis=1) > _NEAR) & (np.abs(determinant) > 1e-9)
        facing = np.array(quads.facing, dtype=np.int64) if len(quads) else np.zeros(0, dtype=np.int64)
        usable &= (facing == 0) | (np.sign(determinant) == facing)
        inverse = np.zeros_like(to_pixels)
        inverse[usable] = np.linalg.inv(to_pixels[usable])
        planes = np.einsum("nj,njk->nk", frames[:, 3], inverse).astype(np.float32)

        inside = corners[..., 2].min(axis=1) > _NEAR
        with np.errstate(divide="ignore", invalid="ignore"):
            points = np.nan_to_num(corners[..., :2] / corners[..., 2:])
        samples = np.clip((points + 0.5) * SAMPLES - 0.5, -_FAR_OFF, _FAR_OFF)
        areas = _area(samples)
        boxes = self._boxes(samples)
        beside = (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])
        usable &= ~(inside & (beside | (areas < 5.0)))
        # corners behind the camera: near, so the finest texture
        sizes = np.where(inside, areas, np.inf)
        # near to far: what is hidden is found out before its texture is sampled
        order = np.argsort(np.where(usable, corners[..., 2].min(axis=1), np.inf), kind="stable")
        to_texture = inverse @ self._to_output
        ranges = boxes.tolist()
        for row in order[: int(usable.sum())].tolist():
            polygon, (x0, y0, x1, y1) = samples[row], ranges[row]
            if not inside[row]:
                polygon = self._cut(corners[row])
                if len(polygon) < 3:
                    continue
                x0, y0, x1, y1 = self._boxes(polygon[None])[0].tolist()
                if x1 <= x0 or y1 <= y0:
                    continue
            self._draw(
                colour[y0:y1, x0:x1], ids[y0:y1, x0:x1], depth[y0:y1, x0:x1], polygon, (x0, y0),
                to_texture[row], planes[row], quads.textures[row], float(sizes[row]), row,
            )  # fmt: skip
        for decal in decals:
            self._shade(colour, depth, camera.projection @ decal.frame, decal)

        small = cv2.resize(colour, (width, height), interpolation=cv2.INTER_AREA)
        chosen = _majority(ids)
        backdrop_rows = np.zeros((FIRST_ID, 3), dtype=np.float32)
        all_planes = np.concatenate([backdrop_rows, planes])
        labels_of = np.array([SKY, TREE, *quads.labels], dtype=np.uint8)
        counts = np.bincount(chosen.ravel(), minlength=len(labels_of))
        x = np.arange(width, dtype=np.float32)[None, :]
        y = np.arange(height, dtype=np.float32)[:, None]
        slope_x, slope_y, level = (all_planes[:, k][chosen] for k in range(3))
        return View(
            camera=camera,
            colour=np.asarray(cv2.cvtColor(small, cv2.COLOR_RGBA2RGB), dtype=np.uint8),
            ids=chosen,
            planes=all_planes,
            to_pixels=np.concatenate([np.zeros((FIRST_ID, 3, 3)), to_pixels]),
            labels_of=labels_of,
            keys=np.array([SKY_ID, SKYLINE_ID, *quads.keys], dtype=np.int64),
            inverse_depth=slope_x * x + slope_y * y + level,
            labels=labels_of[chosen],
            seen=np.flatnonzero(counts).tolist(),
        )

    def _cut(self, corners: Floats) -> Floats:
        """A polygon [K, 3] of (x * depth, y * depth, depth) as samples [N, 2], cut at the near plane."""
        cut = _clipped(corners)
        return np.clip((cut[:, :2] / cut[:, 2:] + 0.5) * SAMPLES - 0.5, -_FAR_OFF, _FAR_OFF)

    def _boxes(self, samples: Floats) -> NDArray[np.int64]:
        """int64 [N, 4]: the part (x0, y0, x1, y1) of the frame around each polygon [N, K, 2]."""
        limit = np.array([self._width, self._height]) * SAMPLES
        low = np.maximum(np.floor(samples.min(axis=1)) - 1, 0)
        high = np.minimum(np.floor(samples.max(axis=1)) + 2, limit)
        return np.concatenate([low, high], axis=1).astype(np.int64)

    def _draw(
        self, colour: Image, ids: NDArray[np.uint16], depth: NDArray[np.float32], samples: Floats,
        origin: tuple[int, int], to_texture: Floats, plane: NDArray[np.float32], texture: Texture,
        size: float, row: int,
    ) -> None:  # fmt: skip
        """Draws one quad into windows of the buffers whose first sample is `origin`."""
        (x0, y0), (h, w) = origin, depth.shape
        near = self._near[: h * w].reshape(h, w)
        across, down = plane[0] * self._xs[x0 : x0 + w], plane[1] * self._ys[y0 : y0 + h] + plane[2]
        np.add(across[None, :], down[:, None], out=near)
        mask = self._mask[: h * w].reshape(h, w)
        cv2.compare(near, depth, cv2.CMP_GT, dst=mask)
        shape = self._shape[: h * w].reshape(h, w)
        shape[...] = 0
        # 4 fractional bits; `_FAR_OFF` keeps them within 32
        cv2.fillConvexPoly(shape, np.rint((samples - origin) * 16).astype(np.int32), 255, cv2.LINE_8, 4)
        cv2.bitwise_and(mask, shape, dst=mask)
        bx, by, bw, bh = cv2.boundingRect(mask)
        if bw == 0:
            return
        if bw * bh < 0.7 * mask.size:
            part = (slice(by, by + bh), slice(bx, bx + bw))
            mask, near, colour, ids, depth = mask[part], near[part], colour[part], ids[part], depth[part]
            x0, y0, w, h = x0 + bx, y0 + by, bw, bh
        patch = self._patch[: h * w * 4].reshape(h, w, 4)
        _sample(patch, texture, to_texture, size, (x0, y0), texture.beyond)
        if not texture.opaque:
            _, solid = cv2.threshold(cv2.extractChannel(patch, 3), 127, 255, cv2.THRESH_BINARY)
            cv2.bitwise_and(mask, solid, dst=mask)
        cv2.copyTo(patch, mask, colour)
        cv2.copyTo(near, mask, depth)
        np.copyto(ids, row + FIRST_ID, where=mask.view(np.bool_))

    def _shade(self, colour: Image, depth: NDArray[np.float32], to_pixels: Floats, decal: Decal) -> None:
        unit = np.array([[0.0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]])
        corners = (unit @ to_pixels.T) / (unit @ decal.frame[3])[:, None]
        samples = self._cut(corners)
        if len(samples) < 3 or abs(np.linalg.det(to_pixels)) < 1e-9:
            return
        x0, y0, x1, y1 = self._boxes(samples[None])[0].tolist()
        if x1 <= x0 or y1 <= y0:
            return
        inverse = np.linalg.inv(to_pixels)
        size = float(_area(samples[None])[0])
        plane = (decal.frame[3] @ inverse).astype(np.float32)
        near = plane[0] * self._xs[None, x0:x1] + (plane[1] * self._ys[y0:y1] + plane[2])[:, None]
        window = depth[y0:y1, x0:x1]
        mask = (np.abs(near - window) < 0.004 * near + 1e-6).astype(np.uint8)
        if not mask.any():
            return
        patch = np.empty((y1 - y0, x1 - x0, 4), dtype=np.uint8)
        _sample(patch, decal.texture, inverse @ self._to_output, size, (x0, y0), (255.0,) * 4)
        target = colour[y0:y1, x0:x1]
        cv2.copyTo(cv2.multiply(target, patch, scale=1 / 255), mask, target)


def _area(points: Floats) -> Floats:
    """float64 [N] of polygons [N, K, 2]."""
    after = np.roll(points, -1, axis=1)
    return np.asarray(
        np.abs((points[..., 0] * after[..., 1] - points[..., 1] * after[..., 0]).sum(axis=1)) / 2
    )


def _sample(
    out: Image,
    texture: Texture,
    to_texture: Floats,
    size: float,
    origin: tuple[int, int],
    beyond: tuple[float, ...],
) -> None:
    """Fills `out`, a window of samples that starts at `origin`; `size`: samples the whole quad covers."""
    (x, y), (h, w) = origin, out.shape[:2]
    full = texture.levels[0]
    ratio = (full.shape[0] - 2 * RIM) * (full.shape[1] - 2 * RIM) / max(size, 1.0)
    level = min(len(texture.levels) - 1, int(0.5 * math.log2(ratio) + 0.3) if ratio > 1.0 else 0)
    image = texture.levels[level]
    # window -> samples -> (u, v) -> texels, whose centres lie at halves, past the rim
    matrix = to_texture.copy()
    matrix[:, 2] += x * to_texture[:, 0] + y * to_texture[:, 1]
    matrix[0] = matrix[0] * (image.shape[1] - 2 * RIM) + (RIM - 0.5) * matrix[2]
    matrix[1] = matrix[1] * (image.shape[0] - 2 * RIM) + (RIM - 0.5) * matrix[2]
    matrix /= np.abs(matrix).max()
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cv2.warpPerspective(
        image, matrix, (w, h), dst=out, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=beyond
    )


def _majority(ids: NDArray[np.uint16]) -> NDArray[np.int32]:
    """[2H, 2W] -> [H, W]: the id that at least two of the four samples share, else the first."""
    out = ids[::2, ::2].copy()
    b, c, d = ids[::2, 1::2], ids[1::2, ::2], ids[1::2, 1::2]
    # only where two others agree against the first does the answer differ from it
    rows, columns = np.nonzero((out != b) & (out != c) & (out != d))
    b, c, d = b[rows, columns], c[rows, columns], d[rows, columns]
    out[rows, columns] = np.where((b == c) | (b == d), b, np.where(c == d, c, out[rows, columns]))
    return out.astype(np.int32)
