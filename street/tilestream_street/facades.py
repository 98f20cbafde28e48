"""Building fronts: walls, windows, doors, shop fronts."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tilestream_street.noise import Image, fractal, jitter, modulate, scaled
from tilestream_street.seeding import pick
from tilestream_street.style import Colour, Style

DENSITY = 25
"""Texture pixels per metre."""


@dataclass(frozen=True, slots=True)
class Facade:
    image: Image
    width: float
    height: float
    wall: Colour
    roof: Colour


def _px(metres: float) -> int:
    return round(metres * DENSITY)


def wall_image(rng: np.random.Generator, width: float, height: float, colour: Colour, material: str) -> Image:
    """uint8 RGBA of a bare wall."""
    h, w = _px(height), _px(width)
    image = np.empty((h, w, 4), dtype=np.uint8)
    image[...] = (*colour, 255)
    if material in ("brick", "block"):
        course, length = (5, 14) if material == "brick" else (14, 28)
        rows, columns = h // course + 1, w // length + 2
        tone = rng.uniform(0.8, 1.18, (rows, columns)).astype(np.float32)
        bricks = np.repeat(np.repeat(tone, course, axis=0), length, axis=1)[:h]
        shift = (np.arange(h) // course % 2) * (length // 2)
        columns_at = np.arange(w)[None, :] + shift[:, None]
        gain = np.take_along_axis(bricks, columns_at, axis=1)
        joints = (np.arange(h)[:, None] % course == 0) | (columns_at % length == 0)
        gain[joints] = 1.22 if rng.random() < 0.5 else 0.78
        image[..., :3] = np.clip(image[..., :3] * gain[..., None], 0, 255)
    elif material == "boards":
        gain = np.where(np.arange(h) % 7 == 0, 0.8, rng.uniform(0.94, 1.06, h)).astype(np.float32)
        image[..., :3] = np.clip(image[..., :3] * gain[:, None, None], 0, 255)
    elif material == "panels":
        image[:: _px(1.5), :, :3] = image[:: _px(1.5), :, :3] // 2
        image[:, :: _px(2.4), :3] = image[:, :: _px(2.4), :3] // 2
    modulate(image, fractal(rng, h, w, 60, 6, 0.75), 0.075)
    # rain-streaked and splashed: darker towards the ground
    grime = np.linspace(0, 1, h, dtype=np.float32) ** 6
    image[..., :3] = np.clip(image[..., :3] * (1 - 0.25 * grime)[:, None, None], 0, 255)
    return image


def _glass(rng: np.random.Generator, h: int, w: int, style: Style) -> Image:
    """A pane: dark room with the sky's reflection, a curtain now and then, lit at dusk."""
    pane = np.empty((h, w, 4), dtype=np.uint8)
    pane[..., 3] = 255
    if rng.random() < style.light.lit_windows:
        base = np.array(jitter(rng, (236, 196, 120), 0.2))
        pane[..., :3] = base
    else:
        top = np.array(style.light.horizon) * rng.uniform(0.3, 0.62)
        bottom = np.array((44, 50, 58)) * rng.uniform(0.6, 1.3)
        ramp = np.linspace(0, 1, h)[:, None, None] ** rng.uniform(0.5, 1.5)
        pane[..., :3] = np.clip(top * (1 - ramp) + bottom * ramp, 0, 255)
        cv2.line(pane, (0, int(h * rng.uniform(0.2, 1.2))), (w, int(h * rng.uniform(-0.4, 0.6))),
                 tuple(float(c) for c in (*np.clip(top * 1.1, 0, 255), 255)), max(1, w // 8))  # fmt: skip
    if rng.random() < 0.3:
        side = max(2, w // 5)
        pane[:, :side, :3] = pane[:, w - side :, :3] = np.array(jitter(rng, (200, 192, 178), 0.2))
    elif rng.random() < 0.25:
        pane[: max(1, int(h * rng.uniform(0.2, 0.6))), :, :3] = np.array(jitter(rng, (190, 184, 170), 0.2))
    return pane


def _window(
    image: Image,
    rng: np.random.Generator,
    style: Style,
    box: tuple[int, int, int, int],
    frame: Colour,
    bars: int,
) -> None:
    x, y, w, h = box
    if w < 6 or h < 6 or y < 2 or y + h + 3 >= image.shape[0] or x < 2 or x + w + 3 >= image.shape[1]:
        return
    cv2.rectangle(image, (x - 2, y - 2), (x + w + 2, y + h + 2), (*frame, 255), -1)
    image[y : y + h, x : x + w] = _glass(rng, h, w, style)
    edge = max(1, _px(0.06))
    for k in range(1, bars):
        cv2.line(image, (x + w * k // bars, y), (x + w * k // bars, y + h), (*frame, 255), edge)
    if bars > 1:
        cv2.line(image, (x, y + h // 3), (x + w, y + h // 3), (*frame, 255), edge)
    # the reveal's shadow and the sill
    image[y : y + edge * 2, x : x + w, :3] = image[y : y + edge * 2, x : x + w, :3] // 2
    sill = tuple(min(255.0, c * 1.12) for c in frame)
    cv2.rectangle(image, (x - 4, y + h + 1), (x + w + 4, y + h + 3), (*sill, 255), -1)


def _shopfront(image: Image, rng: np.random.Generator, style: Style, top: int, wall: Colour) -> None:
    h, w = image.shape[:2]
    trim = jitter(
        rng, pick(rng, ((40, 44, 52), (90, 30, 30), (28, 60, 48), (60, 60, 100), (200, 196, 188))), 0.2
    )
    cv2.rectangle(image, (0, top), (w, h), (*trim, 255), -1)
    band = _px(0.75)
    board = jitter(
        rng, pick(rng, ((150, 40, 36), (30, 70, 120), (28, 90, 60), (196, 160, 60), (60, 50, 46))), 0.25
    )
    cv2.rectangle(image, (0, top), (w, top + band), (*board, 255), -1)
    ink = (235.0, 230.0, 220.0, 255.0) if sum(board) < 380 else (40.0, 40.0, 40.0, 255.0)
    x = int(w * rng.uniform(0.1, 0.3))
    while x < w * rng.uniform(0.6, 0.9):
        step = int(rng.integers(5, 13))
        cv2.rectangle(
            image, (x, top + band // 4), (x + step - 3, top + band * 3 // 4), ink, -1 if step % 2 else 2
        )
        x += step
    bottom, y = h - _px(0.45), top + band + 4
    x = _px(0.3)
    while x < w - _px(1.2):
        pane = min(_px(float(rng.uniform(1.1, 2.8))), w - x - _px(0.25))
        if rng.random() < 0.28:
            pane = min(pane, _px(1.1))
            _window(image, rng, style, (x, y, pane, h - y - 5), trim, 1)
        else:
            _window(image, rng, style, (x, y, pane, bottom - y), trim, 1)
            for _ in range(int(rng.integers(2, 6))):  # goods on display
                gx, gy = (
                    x + int(rng.uniform(0.05, 0.85) * pane),
                    bottom - int(rng.uniform(0.05, 0.5) * (bottom - y)),
                )
                cv2.rectangle(
                    image, (gx, gy), (gx + _px(0.3), bottom - 2), (*rng.uniform(40, 230, 3), 255), -1
                )
        x += pane + _px(0.2)
    if rng.random() < 0.4:
        stripes = np.arange(w) // _px(0.3) % 2 == 0
        depth = _px(0.8)
        patch = image[top + band : top + band + depth]
        patch[:, stripes, :3] = np.array(board)
        patch[:, ~stripes, :3] = np.array((230, 226, 216))
        patch[-4:, :, :3] //= 2


def make_facade(rng: np.random.Generator, style: Style, width: float, gain: float) -> Facade:
    """One building front `width` metres wide; the rest from `rng`; `gain` is the light on it."""
    wall = jitter(rng, pick(rng, style.walls), 0.18)
    reddish = wall[0] > 1.25 * wall[2]
    material = pick(
        rng, ("brick", "brick", "plaster") if reddish else ("plaster", "plaster", "block", "panels", "boards")
    )
    floors = int(rng.integers(style.floors[0], style.floors[1] + 1))
    storey, ground = float(rng.uniform(2.8, 3.5)), float(rng.uniform(3.0, 4.1))
    height = ground + storey * (floors - 1) + float(rng.uniform(0.6, 1.3))
    image = wall_image(rng, width, height, wall, material)
    h, w = image.shape[:2]
    frame = jitter(rng, pick(rng, ((226, 224, 218), (226, 224, 218), (70, 60, 52), (60, 64, 68))), 0.1)
    top = h - _px(ground)
    pitch = float(rng.uniform(1.9, 3.2))
    columns = max(1, int(width / pitch))
    win_w, win_h = min(pitch * 0.62, float(rng.uniform(0.9, 1.7))), float(rng.uniform(1.2, 2.0))
    bars = int(rng.integers(1, 4))
    balcony = rng.random() < 0.25 and floors > 2
    band = rng.random() < 0.4
    glassy = rng.random() < 0.12 and floors > 2
    for floor in range(1, floors):
        y = h - _px(ground + storey * floor) + _px(0.55)
        if band:
            cv2.rectangle(image, (0, y + _px(storey - 0.62)), (w, y + _px(storey - 0.5)), (*frame, 255), -1)
        for column in range(columns):
            x = _px((column + 0.5) * width / columns - win_w / 2)
            size = (_px(width / columns - 0.2), _px(storey - 0.9)) if glassy else (_px(win_w), _px(win_h))
            x = _px((column + 0.5) * width / columns) - size[0] // 2
            _window(image, rng, style, (x, y, *size), frame, bars)
            if balcony and column % 2 == 0:
                low = y + size[1]
                cv2.rectangle(image, (x - 9, low - _px(0.8)), (x + size[0] + 9, low), (62, 62, 66, 255), 2)
                for bx in range(x - 9, x + size[0] + 9, 5):
                    cv2.line(image, (bx, low - _px(0.8)), (bx, low), (62, 62, 66, 255), 1)
                cv2.rectangle(
                    image, (x - 10, low), (x + size[0] + 10, low + 5), (*scaled_colour(wall, 0.8), 255), -1
                )
    if rng.random() < 0.55 * style.town:
        _shopfront(image, rng, style, top, wall)
    else:
        door = int(rng.integers(columns))
        for column in range(columns):
            x = _px((column + 0.5) * width / columns - win_w / 2)
            if column == door:
                paint = jitter(
                    rng, pick(rng, ((120, 40, 36), (40, 70, 60), (50, 56, 90), (110, 84, 60))), 0.25
                )
                dw, dh = _px(1.05), _px(2.3)
                cv2.rectangle(image, (x - 3, h - dh - 3), (x + dw + 3, h), (*frame, 255), -1)
                cv2.rectangle(image, (x, h - dh), (x + dw, h - 3), (*paint, 255), -1)
                _window(image, rng, style, (x + 5, h - dh + 5, dw - 10, _px(0.5)), paint, 1)
            else:
                _window(image, rng, style, (x, top + _px(0.9), _px(win_w), _px(win_h)), frame, bars)
    cornice = _px(float(rng.uniform(0.2, 0.5)))
    cv2.rectangle(image, (0, 0), (w, cornice), (*scaled_colour(wall, 1.15), 255), -1)
    image[cornice : cornice + 4, :, :3] //= 2
    cv2.rectangle(image, (0, 0), (3, h), (*scaled_colour(wall, 0.6), 255), -1)
    modulate(image, fractal(rng, h, w, 90, 3), 0.03)
    roof = jitter(rng, pick(rng, ((132, 72, 54), (84, 82, 84), (104, 90, 78), (70, 72, 80))), 0.2)
    return Facade(scaled(image, gain), width, height, wall, roof)


def scaled_colour(colour: Colour, gain: float) -> Colour:
    r, g, b = (float(min(255.0, c * gain)) for c in colour)
    return r, g, b


def roof_image(rng: np.random.Generator, colour: Colour, gain: float) -> Image:
    """uint8 RGBA [128, 256, 4] of tiles."""
    image = np.empty((128, 256, 4), dtype=np.uint8)
    image[...] = (*colour, 255)
    rows = np.where(np.arange(128) % 8 == 0, 0.7, rng.uniform(0.9, 1.1, 128)).astype(np.float32)
    image[..., :3] = np.clip(image[..., :3] * rows[:, None, None], 0, 255)
    modulate(image, fractal(rng, 128, 256, 24, 4, 0.8), 0.1)
    return scaled(image, gain)
