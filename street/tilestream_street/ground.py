"""Road and pavement textures, 16 m long pieces; v = 0 is the far end."""

from __future__ import annotations

import cv2
import numpy as np

from tilestream_street.noise import Image, fractal, modulate, scaled
from tilestream_street.route import CHUNK_LENGTH
from tilestream_street.style import Style

DENSITY = 40
"""Texture pixels per metre."""


def _asphalt(rng: np.random.Generator, h: int, w: int, style: Style) -> Image:
    image = np.empty((h, w, 4), dtype=np.uint8)
    image[...] = (*style.asphalt, 255)
    # grain at several scales: what optical flow holds on to
    modulate(image, fractal(rng, h, w, 220, 3, 0.7), 0.06)
    modulate(image, fractal(rng, h, w, 12, 4, 0.9), 0.085)
    for _ in range(int(rng.integers(0, 4))):  # patches
        x, y = int(rng.uniform(0, w * 0.8)), int(rng.uniform(0, h * 0.9))
        size = rng.uniform(30, 130, 2).astype(int)
        patch = image[y : y + size[1], x : x + size[0]]
        patch[..., :3] = np.clip(patch[..., :3] * rng.uniform(0.72, 1.15), 0, 255)
    for _ in range(int(rng.integers(0, 4))):  # cracks
        points = np.cumsum(rng.normal(0, 1, (24, 2)) * (3, 7) + (0, 5), axis=0) + rng.uniform(0, 1, 2) * (
            w,
            h,
        )
        cv2.polylines(image, [points.astype(np.int32)], False, (*(c * 0.7 for c in style.asphalt), 255), 1)
    if rng.random() < 0.5:  # manhole
        centre = (int(rng.uniform(0.2, 0.8) * w), int(rng.uniform(0.1, 0.9) * h))
        cv2.circle(image, centre, 16, (62, 60, 58, 255), -1)
        cv2.circle(image, centre, 16, (40, 40, 40, 255), 2)
        cv2.line(image, (centre[0] - 9, centre[1]), (centre[0] + 9, centre[1]), (86, 84, 82, 255), 2)
    return image


def road_image(rng: np.random.Generator, style: Style, crossing: bool) -> Image:
    """uint8 RGBA of one chunk of road, kerb to kerb; u runs left to right."""
    left, right = style.half_road
    h, w = round(CHUNK_LENGTH * DENSITY), round((left + right) * DENSITY)
    image = _asphalt(rng, h, w, style)
    paint = np.zeros((h, w), dtype=np.uint8)
    yellow = np.zeros((h, w), dtype=np.uint8)

    def line(target: Image, d: float, width: float, dash: float = 0.0, gap: float = 0.0) -> None:
        x0, x1 = round((left + d - width / 2) * DENSITY), round((left + d + width / 2) * DENSITY)
        y = 0.0
        while y < CHUNK_LENGTH:
            length = dash if dash else CHUNK_LENGTH
            target[round(y * DENSITY) : round((y + length) * DENSITY), max(0, x0) : x1] = 255
            y += length + gap

    kind = style.centre_line
    centre = yellow if kind == "yellow" else paint
    if kind == "dash":
        line(centre, 0.0, 0.16, 2.4, 2.9333)
    elif kind == "solid":
        line(centre, 0.0, 0.16)
    else:
        line(centre, -0.14, 0.12)
        line(centre, 0.14, 0.12)
    for sign, lane, parking in ((-1, style.lane, style.parking[0]), (1, style.lane, style.parking[1])):
        if parking > 0:
            line(paint, sign * lane, 0.12, 1.0, 1.0)
        elif style.edge_line:
            line(paint, sign * (lane - 0.3), 0.14)
    if crossing:
        y0, y1 = round(6.0 * DENSITY), round(9.6 * DENSITY)
        paint[y0 - DENSITY * 2 : y1 + DENSITY * 2] = 0
        yellow[y0 - DENSITY * 2 : y1 + DENSITY * 2] = 0
        stripes = (np.arange(w) / DENSITY) % 1.1 < 0.55
        paint[y0:y1, stripes] = 255
        for y in (y0 - round(1.5 * DENSITY), y1 + round(1.2 * DENSITY)):  # stop lines
            paint[y : y + round(0.3 * DENSITY)] = 255
    worn = fractal(rng, h, w, 24, 5, 0.8)
    for mask, colour in ((paint, (226, 226, 220)), (yellow, (214, 170, 60))):
        cover = (cv2.GaussianBlur(mask, (3, 3), 0) / np.float32(255)) * np.clip(0.92 - 0.22 * worn, 0.3, 1)
        image[..., :3] = (
            image[..., :3] * (1 - cover[..., None]) + np.array(colour, np.float32) * cover[..., None]
        )
    # tyre tracks polish, gutters darken
    d = np.arange(w) / DENSITY - left
    tracks = sum(np.exp(-(((np.abs(d) - style.lane / 2 + o) / 0.35) ** 2)) for o in (-0.75, 0.75))
    edge = np.exp(-np.minimum(d + left, right - d) / 0.25)
    gain = (1 - 0.08 * np.asarray(tracks) - 0.3 * edge).astype(np.float32)
    gain = gain[None, :] * np.ones((h, 1), dtype=np.float32)
    if style.light.shadow > 0.2:  # the houses' shadow on the side away from the sun
        reach = 0.2 + 1.1 * ((style.sun_azimuth * 7) % 1.0)
        border = style.sun_side * (reach + 0.12 * fractal(rng, h, 1, 160, 2)[:, 0])
        border[:8] = border[-8:] = style.sun_side * reach
        inside = (d[None, :] * style.sun_side > (border * style.sun_side)[:, None] + style.lane * 0.6).astype(
            np.float32
        )
        gain *= 1 - style.light.shadow * cv2.GaussianBlur(inside, (9, 9), 0)
    image[..., :3] = np.clip(image[..., :3] * gain[..., None], 0, 255)
    return scaled(image, style.light.gain)


def pavement_image(rng: np.random.Generator, style: Style, side: int) -> Image:
    """uint8 RGBA of one chunk of pavement; u runs left to right, the kerb's stone is on the road's side."""
    width = style.pavement[0] if side < 0 else style.pavement[1]
    h, w = round(CHUNK_LENGTH * DENSITY), round(width * DENSITY)
    image = np.empty((h, w, 4), dtype=np.uint8)
    image[...] = (*style.paving_colour, 255)
    modulate(image, fractal(rng, h, w, 12, 4, 0.9), 0.05)
    modulate(image, fractal(rng, h, w, 200, 3), 0.06)
    if style.paving != "asphalt":
        size = (40, 32) if style.paving == "slabs" else (11, 20)
        rows, columns = h // size[0] + 1, w // size[1] + 1
        tone = rng.uniform(0.9, 1.1, (rows, columns)).astype(np.float32)
        gain = np.repeat(np.repeat(tone, size[0], axis=0), size[1], axis=1)[:h, :w].copy()
        gain[:: size[0]] = gain[:, :: size[1]] = 0.7
        image[..., :3] = np.clip(image[..., :3] * gain[..., None], 0, 255)
    kerb = round(0.2 * DENSITY)
    stone = np.array((176, 174, 168)) * (0.92 + 0.16 * (np.arange(h) // DENSITY % 2))[:, None]
    stone[::DENSITY] *= 0.6
    columns_of = slice(0, kerb) if side > 0 else slice(w - kerb, w)
    image[:, columns_of, :3] = np.clip(stone[:, None, :] * rng.uniform(0.93, 1.05, (h, kerb, 1)), 0, 255)
    shade = 1 - (style.light.shadow * 0.9 if side == style.sun_side and style.light.shadow > 0.2 else 0.0)
    return scaled(image, style.light.gain * shade)


def kerb_image(rng: np.random.Generator, style: Style, lit: bool) -> Image:
    image = np.empty((8, 512, 4), dtype=np.uint8)
    image[...] = (150, 148, 142, 255)
    image[:, ::32, :3] = 90
    modulate(image, fractal(rng, 8, 512, 6, 3, 0.9), 0.08)
    return scaled(image, style.light.gain * (0.95 if lit else 0.95 / style.light.contrast))


def grass_image(rng: np.random.Generator, style: Style) -> Image:
    """uint8 RGBA [512, 512, 4]."""
    image = np.empty((512, 512, 4), dtype=np.uint8)
    leaf = np.asarray(style.leaf[1]) * 1.1
    image[...] = (*np.clip(leaf, 0, 255), 255)
    modulate(image, fractal(rng, 512, 512, 120, 6, 0.85), 0.14)
    return scaled(image, style.light.gain)
