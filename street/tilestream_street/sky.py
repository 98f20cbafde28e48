"""The far backdrop: sky with clouds and a hazy skyline at infinity, as a panorama around the viewer."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tilestream_street.camera import Camera
from tilestream_street.noise import Image, fractal
from tilestream_street.style import Style

_WIDTH = 2048
_HEIGHT = 512
_TOP = 0.9
"""Radians above the horizon at the panorama's first row; the last row is as far below as the rest allows."""
_SCALE = _WIDTH / (2 * np.pi)
_HORIZON = round(_TOP * _SCALE)


class Backdrop:
    """Panorama uint8 RGBA [512, 2048, 4]; alpha 255 where the skyline (class tree) hides the sky."""

    def __init__(self, rng: np.random.Generator, style: Style) -> None:
        light = style.light
        height = ((np.arange(_HORIZON)[::-1] / _HORIZON)[:, None] ** 0.6).astype(np.float32)
        ramp = np.array(light.horizon) * (1 - height) + np.array(light.zenith) * height
        image = np.empty((_HEIGHT, _WIDTH, 4), dtype=np.float32)
        image[...] = (*light.horizon, 0)
        image[:_HORIZON, :, :3] = ramp[:, None, :]
        half = fractal(rng, _HORIZON // 2, _WIDTH // 2, 75, 5, 0.6)
        clouds = np.asarray(
            cv2.resize(half, (_WIDTH, _HORIZON), interpolation=cv2.INTER_LINEAR), dtype=np.float32
        )
        blend = np.linspace(0, 1, 200, dtype=np.float32)  # no seam where the panorama closes
        clouds[:, -200:] = clouds[:, -200:] * (1 - blend) + clouds[:, :1] * blend
        level = float(np.quantile(clouds, 1 - light.clouds * float(rng.uniform(0.6, 1.3)) * 0.75))
        cover = np.clip((clouds - level) / 0.9, 0, 1)[..., None] ** 0.8 * 0.85
        shade = np.clip(1.0 - 0.12 * np.clip(clouds - level, 0, 2), 0.6, 1)[..., None]
        image[:_HORIZON, :, :3] = (
            image[:_HORIZON, :, :3] * (1 - cover) + np.array(light.cloud) * shade * cover
        )
        # skyline of distant woods
        line = 0.035 + 0.035 * rng.random() + 0.016 * fractal(rng, 1, _WIDTH, 240, 5, 0.6)[0]
        line[-200:] = line[-200:] * (1 - blend) + line[0] * blend
        top = _HORIZON - np.clip(line, 0.012, None) * _SCALE
        woods = np.arange(_HEIGHT)[:, None] > top[None, :]
        leaf = np.array(style.leaf[0]) * 0.35 + np.array(light.haze) * 0.5
        first = int(top.min())
        grain = 1 + 0.07 * fractal(rng, _HEIGHT - first, _WIDTH, 30, 4, 0.8)
        tone = (leaf * light.gain).astype(np.float32) * grain[..., None]
        tone = np.dstack([tone, np.full(tone.shape[:2], 255, dtype=np.float32)])
        image[first:] = np.where(woods[first:, :, None], tone, image[first:])
        self._image: Image = np.clip(image, 0, 255).astype(np.uint8)

    def render(self, camera: Camera, width: int, height: int, scale: int) -> Image:
        """uint8 RGBA [height * scale, width * scale, 4] of the view; sampled coarsely, for it is smooth."""
        columns = (width + 1) // 2
        # nothing but the skyline's woods lies more than 3 degrees below the horizon
        lowest = camera.intrinsics[1, 2] + camera.focal * (0.06 + max(0.0, -float(camera.rotation[2, 1])))
        rows = int(np.clip(lowest / 2 + 2, 4, (height + 1) // 2))
        # grid points at output pixels -0.5, 1.5, 3.5, ...: what a plain enlargement takes them for
        x = np.arange(columns, dtype=np.float32) * 2 + 0.5
        y = np.arange(rows, dtype=np.float32) * 2 + 0.5
        k = camera.intrinsics
        dx = ((x - k[0, 2]) / k[0, 0])[None, :]
        dy = ((y - k[1, 2]) / k[1, 1])[:, None]
        r = camera.rotation.astype(np.float32)
        ray: list[NDArray[np.float32]] = [dx * r[0, i] + dy * r[1, i] + r[2, i] for i in range(3)]
        azimuth = np.arctan2(ray[0], ray[2]) * np.float32(_SCALE) + np.float32(_WIDTH / 2)
        level = np.hypot(ray[0], ray[2])
        row = np.arctan2(ray[1], level) * np.float32(_SCALE) + np.float32(_HORIZON)
        small = cv2.remap(
            self._image, (azimuth % _WIDTH).astype(np.float32),
            np.clip(row, 0, _HEIGHT - 1).astype(np.float32),
            cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP,
        )  # fmt: skip
        out = np.empty((height * scale, width * scale, 4), dtype=np.uint8)
        big = cv2.resize(small, (columns * 2 * scale, rows * 2 * scale), interpolation=cv2.INTER_LINEAR)
        part = out[: rows * 2 * scale]
        part[...] = big[: len(part), : width * scale]
        out[len(part) :] = part[-1]
        return out
