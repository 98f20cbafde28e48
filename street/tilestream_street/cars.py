"""Cars as closed boxes cut along a side profile: each car is a list of quads in its own axes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from tilestream_street.noise import Image, fractal, jitter, modulate, scaled
from tilestream_street.seeding import pick
from tilestream_street.style import Colour, Style
from tilestream_street.surface import Floats, Texture, parallelogram

_PAINTS: tuple[Colour, ...] = (
    (196, 198, 200), (60, 62, 66), (30, 31, 34), (225, 225, 222), (140, 28, 30), (34, 60, 120),
    (112, 118, 124), (70, 96, 80), (150, 130, 100), (190, 150, 40), (90, 130, 160),
)  # fmt: skip
# (z, height) from the tail round over the roof to the nose, as shares of length and height
_PROFILES: dict[str, tuple[tuple[float, float], ...]] = {
    "hatch": ((0.0, 0.17), (0.01, 0.6), (0.14, 0.97), (0.52, 1.0), (0.72, 0.62), (0.97, 0.5), (1.0, 0.17)),
    "sedan": (
        (0.0, 0.17),
        (0.01, 0.6),
        (0.15, 0.64),
        (0.3, 0.98),
        (0.55, 1.0),
        (0.72, 0.63),
        (0.98, 0.52),
        (1.0, 0.17),
    ),
    "suv": ((0.0, 0.2), (0.01, 0.6), (0.06, 0.97), (0.58, 1.0), (0.73, 0.64), (0.97, 0.58), (1.0, 0.2)),
    "van": ((0.0, 0.14), (0.005, 0.5), (0.01, 0.99), (0.74, 1.0), (0.88, 0.56), (0.985, 0.44), (1.0, 0.14)),
    "bus": ((0.0, 0.1), (0.002, 0.55), (0.004, 1.0), (0.985, 1.0), (0.99, 0.42), (1.0, 0.4), (1.0, 0.1)),
}
_SIZES = {"hatch": (3.9, 1.72, 1.48), "sedan": (4.6, 1.8, 1.44), "suv": (4.5, 1.86, 1.72),
          "van": (5.3, 2.0, 2.2), "bus": (10.0, 2.5, 3.0)}  # fmt: skip
_PIXELS = 64


@dataclass(frozen=True, slots=True)
class Car:
    """`frames` float64 [Q, 4, 3] in car axes: x right, y down, z ahead, origin below the centre."""

    frames: Floats
    textures: tuple[Texture, ...]
    facing: tuple[int, ...]
    length: float
    width: float
    height: float


def _paint(h: int, w: int, colour: Colour, gain: float) -> Image:
    image = np.empty((h, w, 4), dtype=np.uint8)
    image[...] = (*(min(255.0, c * gain) for c in colour), 255)
    return image


def _side(rng: np.random.Generator, kind: str, colour: Colour, style: Style) -> Image:
    """RGBA of the left side, tail at u = 0, see-through outside the profile."""
    length, _, height = _SIZES[kind]
    h, w = round(height * _PIXELS), round(length * _PIXELS)
    profile = np.array([(z * w, (1 - y) * h) for z, y in _PROFILES[kind]])
    image = np.zeros((h, w, 4), dtype=np.uint8)
    body = _paint(h, w, colour, 0.92)
    shade = np.interp(np.arange(h) / h, [0, 0.35, 0.5, 0.75, 1], [1.1, 1.05, 1.12, 0.8, 0.55])
    body[..., :3] = np.clip(body[..., :3] * shade[:, None, None], 0, 255)
    cover = np.zeros((h, w), dtype=np.uint8)
    cv2.fillPoly(cover, [profile.round().astype(np.int32)], 255)
    image[cover > 0] = body[cover > 0]
    roof, belt = 0.07 * h, 0.42 * h
    if kind == "bus":
        panes = [(z, z + 0.095) for z in np.arange(0.02, 0.9, 0.105)]
        belt = 0.48 * h
    elif kind == "van":
        panes = [(0.6, 0.84)] if rng.random() < 0.6 else [(0.08, 0.3), (0.33, 0.57), (0.6, 0.84)]
    else:
        front = 0.68 if kind != "suv" else 0.69
        panes = [(0.1 if kind != "sedan" else 0.2, 0.4), (0.425, front)]
    glass_cover = np.zeros((h, w), dtype=np.uint8)
    for z0, z1 in panes:
        cv2.rectangle(glass_cover, (round(z0 * w), round(roof)), (round(z1 * w), round(belt)), 255, -1)
    inner = cv2.erode(cover, np.ones((9, 9), dtype=np.uint8))
    glass = np.linspace(0.34, 0.12, h)[:, None] * np.array(style.light.horizon)
    where = (glass_cover > 0) & (inner > 0)
    image[..., :3][where] = np.broadcast_to(glass[:, None, :], (h, w, 3))[where]
    line = tuple(float(c * 0.5) for c in colour)
    for z in (0.42, 0.69) if kind not in ("bus", "van") else (0.58, 0.86):
        cv2.line(image, (round(z * w), round(belt)), (round(z * w), round(0.8 * h)), (*line, 255), 1)
    cv2.line(image, (round(0.02 * w), round(0.5 * h)), (round(0.98 * w), round(0.52 * h)), (*line, 255), 1)
    radius = round((0.33 if kind != "bus" else 0.48) * _PIXELS)
    for z in (0.19, 0.81):
        centre = (round(z * w), h - radius)
        cv2.circle(image, centre, round(radius * 1.16), (18, 18, 20, 255), -1)
        cv2.circle(image, centre, radius, (34, 34, 36, 255), -1)
        cv2.circle(image, centre, round(radius * 0.62), (150, 152, 156, 255), -1)
        for k in range(5):
            a = 2 * np.pi * k / 5
            tip = (round(centre[0] + radius * 0.6 * np.cos(a)), round(centre[1] + radius * 0.6 * np.sin(a)))
            cv2.line(image, centre, tip, (70, 72, 76, 255), 3)
    low = round(0.46 * h)
    cv2.rectangle(image, (0, low), (round(0.03 * w), low + h // 10), (190, 26, 26, 255), -1)
    cv2.rectangle(image, (round(0.96 * w), low + 4), (w, low + h // 9), (236, 232, 210, 255), -1)
    image[..., 3] = np.where((cover > 0) | (image[..., 3] > 0), 255, 0)
    modulate(image, fractal(rng, h, w, 90, 4, 0.7), 0.05)
    return image


def _end(rng: np.random.Generator, kind: str, colour: Colour, style: Style, front: bool) -> Image:
    """RGBA of the lower front or back: lamps, plate, bumper, tyres below."""
    width, height = _SIZES[kind][1], _SIZES[kind][2] * 0.65
    h, w = round(height * _PIXELS), round(width * _PIXELS)
    image = _paint(h, w, colour, 0.95)
    image[round(h * 0.62) :, :, :3] = np.clip(np.array(colour) * 0.45, 0, 255)  # bumper
    image[round(h * 0.86) :] = (22, 22, 24, 255)
    for x in (0, w - w // 7):
        cv2.rectangle(image, (x, round(h * 0.8)), (x + w // 7, h), (30, 30, 32, 255), -1)
    top, bottom = round(h * 0.2), round(h * 0.42)
    lamp = (
        (240, 238, 220, 255) if front else ((255, 60, 50, 255) if rng.random() < 0.4 else (190, 24, 26, 255))
    )
    for x0, x1 in ((3, w // 5), (w - w // 5, w - 4)):
        cv2.rectangle(image, (x0, top), (x1, bottom), lamp, -1)
        cv2.rectangle(image, (x0, top), (x1, bottom), (60, 60, 62, 255), 1)
    if front:
        cv2.rectangle(image, (w // 4, round(h * 0.28)), (w * 3 // 4, round(h * 0.5)), (26, 26, 28, 255), -1)
        cv2.line(image, (w // 4, round(h * 0.38)), (w * 3 // 4, round(h * 0.38)), (150, 150, 152, 255), 2)
    plate = (238, 238, 232, 255) if rng.random() < 0.7 else (232, 200, 60, 255)
    y = round(h * (0.6 if front else 0.45))
    cv2.rectangle(image, (w // 2 - 17, y), (w // 2 + 17, y + 9), plate, -1)
    cv2.line(image, (w // 2 - 13, y + 5), (w // 2 + 13, y + 5), (40, 40, 44, 255), 3)
    modulate(image, fractal(rng, h, w, 60, 4, 0.7), 0.05)
    return image


def _pane(rng: np.random.Generator, kind: str, colour: Colour, style: Style) -> Image:
    """RGBA of a windscreen within its frame."""
    h, w = 64, 128
    image = _paint(h, w, colour, 0.9)
    glass = np.linspace(0.5, 0.16, h - 12)[:, None] * np.array(style.light.horizon)
    image[6 : h - 6, 9 : w - 9, :3] = glass[:, None, :]
    for x in (w // 3 - 8, w * 2 // 3 - 8):  # headrests
        cv2.rectangle(image, (x, h // 2), (x + 16, h - 10), (28, 28, 32, 255), -1)
    modulate(image, fractal(rng, h, w, 40, 4, 0.7), 0.06)
    return image


def make_car(rng: np.random.Generator, style: Style, kind: str | None = None) -> Car:
    """One car; kind, paint and size from `rng`."""
    if kind is None:
        kind = pick(rng, ("hatch", "hatch", "sedan", "sedan", "suv", "suv", "van"))
    colour = jitter(rng, pick(rng, _PAINTS), 0.15)
    length, width, height = _SIZES[kind]
    gain = style.light.gain
    side = Texture(scaled(_side(rng, kind, colour, style), gain), opaque=False)
    sheet = _paint(64, 64, colour, 1.12)
    modulate(sheet, fractal(rng, 64, 64, 30, 4, 0.7), 0.05)
    sheet_texture = Texture(scaled(sheet, gain))
    x, back = width / 2, -length / 2
    frames = [
        # sides: u runs from tail to nose on both
        parallelogram(np.array([-x, -height, back]), np.array([0, 0, length]), np.array([0, height, 0])),
        parallelogram(np.array([x, -height, back]), np.array([0, 0, length]), np.array([0, height, 0])),
    ]
    textures = [side, side]
    profile = _PROFILES[kind]
    points = [np.array([0.0, -height * y, back + length * z]) for z, y in profile]
    rise = [abs(b[1] - a[1]) for a, b in pairwise(points)]
    for k, (a, b) in enumerate(pairwise(points)):
        ahead = k >= len(points) // 2
        if k in (0, len(points) - 2):
            texture = Texture(scaled(_end(rng, kind, colour, style, ahead), gain))
        elif rise[k] > 0.22 * height:
            texture = Texture(scaled(_pane(rng, kind, colour, style), gain))
        else:
            texture = sheet_texture
        # u from left to right as seen from behind or from ahead, v downwards
        top, low = (a, b) if ahead else (b, a)
        edge = np.array([x, 0.0, 0.0])
        start, along = (top + edge, -2 * edge) if ahead else (top - edge, 2 * edge)
        frames.append(parallelogram(start, along, low - top))
        textures.append(texture)
    return Car(np.stack(frames), tuple(textures), (-1,) + (1,) * (len(frames) - 1), length, width, height)


def car_shadow() -> Image:
    """uint8 RGBA [64, 64, 4] of the light left under a car."""
    yy, xx = np.mgrid[-1:1:64j, -1:1:64j]
    edge = np.maximum(np.abs(xx), np.abs(yy))
    light = np.clip((edge - 0.7) / 0.3, 0, 1) * 0.75 + 0.25
    image = np.full((64, 64, 4), 255, dtype=np.uint8)
    image[..., :3] = (255 * light)[..., None]
    return image
