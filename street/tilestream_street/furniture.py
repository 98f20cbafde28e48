"""Sprites of things that stand at the kerb: signs, traffic lights, poles, fences."""

from __future__ import annotations

import cv2
import numpy as np

from tilestream_street.facades import wall_image
from tilestream_street.noise import Image, fractal, jitter, modulate, scaled
from tilestream_street.seeding import pick
from tilestream_street.style import Colour, Style

_WHITE = (240, 240, 238, 255)
_RED = (196, 30, 34, 255)
_BLUE = (28, 78, 170, 255)
_BLACK = (24, 24, 26, 255)
_YELLOW = (240, 190, 40, 255)

SIGN_KINDS: tuple[str, ...] = (
    "limit",
    "stop",
    "yield",
    "warn",
    "blue",
    "parking",
    "arrow",
    "noentry",
    "diamond",
)
FENCE_HEIGHT = {"wall": 1.1, "wood": 1.6, "rail": 1.2, "picket": 1.15, "mesh": 1.7}


def sign_image(rng: np.random.Generator, style: Style, kind: str) -> Image:
    """uint8 RGBA [96, 96, 4] of a traffic sign's face."""
    image = np.zeros((96, 96, 4), dtype=np.uint8)
    c = (48, 48)
    if kind in ("limit", "warn", "noentry", "blue"):
        cv2.circle(image, c, 46, {"blue": _BLUE}.get(kind, _RED), -1)
    if kind == "limit":
        cv2.circle(image, c, 35, _WHITE, -1)
        text = str(int(rng.integers(2, 8)) * 10)
        cv2.putText(image, text, (18, 62), cv2.FONT_HERSHEY_SIMPLEX, 1.5, _BLACK, 6)
    elif kind == "noentry":
        cv2.rectangle(image, (18, 40), (78, 56), _WHITE, -1)
    elif kind == "blue":
        cv2.arrowedLine(image, (48, 78), (48, 22), _WHITE, 9, tipLength=0.4)
    elif kind in ("yield", "warn"):
        image[...] = 0
        flip = -1 if kind == "yield" else 1
        for size, ink in ((46, _RED), (31, _WHITE)):
            points = [
                (48 + size * 1.0 * np.sin(a), 52 * 1.0 - flip * size * np.cos(a)) for a in (0, 2.094, 4.189)
            ]
            cv2.fillPoly(image, [np.array(points).astype(np.int32)], ink)
        if kind == "warn":
            cv2.line(image, (48, 36), (48, 58), _BLACK, 7)
            cv2.circle(image, (48, 68), 4, _BLACK, -1)
    elif kind == "stop":
        points = [(48 + 47 * np.cos(a), 48 + 47 * np.sin(a)) for a in np.pi / 8 + np.arange(8) * np.pi / 4]
        cv2.fillPoly(image, [np.array(points).astype(np.int32)], _RED)
        cv2.putText(image, "STOP", (13, 58), cv2.FONT_HERSHEY_SIMPLEX, 0.85, _WHITE, 4)
    elif kind == "parking":
        cv2.rectangle(image, (4, 4), (92, 92), _BLUE, -1)
        cv2.rectangle(image, (8, 8), (88, 88), _WHITE, 3)
        cv2.putText(image, "P", (26, 74), cv2.FONT_HERSHEY_SIMPLEX, 2.2, _WHITE, 9)
    elif kind == "arrow":
        cv2.rectangle(image, (2, 16), (94, 80), _BLUE if rng.random() < 0.5 else (24, 110, 70, 255), -1)
        cv2.rectangle(image, (6, 20), (90, 76), _WHITE, 3)
        cv2.arrowedLine(image, (16, 34), (50, 34), _WHITE, 5, tipLength=0.4)
        for y in (48, 62):
            cv2.line(image, (18, y), (18 + int(rng.integers(30, 62)), y), _WHITE, 6)
    elif kind == "diamond":
        for size, ink in ((46, _WHITE), (34, _YELLOW)):
            cv2.fillPoly(
                image, [np.array([(48, 48 - size), (48 + size, 48), (48, 48 + size), (48 - size, 48)])], ink
            )
    modulate(image, fractal(rng, 96, 96, 30, 3), 0.04)
    return scaled(image, min(1.05, style.light.gain * 1.05))


def board_image(rng: np.random.Generator, style: Style) -> Image:
    """uint8 RGBA [96, 192, 4] of a big direction board."""
    image = np.empty((96, 192, 4), dtype=np.uint8)
    image[...] = pick(rng, (_BLUE, (24, 110, 70, 255), (236, 236, 230, 255)))
    ink = _BLACK if image[0, 0, 0] > 200 else _WHITE
    cv2.rectangle(image, (3, 3), (188, 92), ink, 3)
    for y in (24, 48, 72):
        cv2.arrowedLine(image, (14, y), (36, y), ink, 4, tipLength=0.5)
        x = 48
        while x < 48 + int(rng.integers(50, 120)):
            step = int(rng.integers(8, 15))
            cv2.line(image, (x, y), (x + step - 4, y), ink, 9)
            x += step
    return scaled(image, min(1.05, style.light.gain * 1.05))


def light_image(rng: np.random.Generator, state: int) -> Image:
    """uint8 RGBA [128, 56, 4] of a traffic light's head; `state` 0 red, 1 amber, 2 green."""
    image = np.empty((128, 56, 4), dtype=np.uint8)
    image[...] = (28, 30, 30, 255)
    cv2.rectangle(
        image, (1, 1), (54, 126), (214, 180, 50, 255) if rng.random() < 0.4 else (70, 72, 72, 255), 4
    )
    for k, colour in enumerate(((255, 46, 36), (255, 184, 40), (60, 240, 130))):
        on = k == state
        ink = (*colour, 255) if on else (*(int(v * 0.22) for v in colour), 255)
        cv2.circle(image, (28, 24 + 40 * k), 16, ink, -1)
        if on:
            cv2.circle(image, (28, 24 + 40 * k), 7, (*(min(255, v + 70) for v in colour), 255), -1)
        cv2.ellipse(image, (28, 22 + 40 * k), (17, 16), 0, 190, 350, (12, 12, 12, 255), 3)
    return image


def pole_image(rng: np.random.Generator, colour: Colour, gain: float) -> Image:
    """uint8 RGBA [512, 16, 4] of a round shaft, shaded across."""
    image = np.empty((512, 16, 4), dtype=np.uint8)
    shade = np.sin(np.linspace(0.35, np.pi * 0.95, 16)) * 0.75 + 0.4
    image[..., :3] = np.clip(np.array(colour) * shade[None, :, None], 0, 255)
    image[..., 3] = 255
    modulate(image, fractal(rng, 512, 16, 30, 4, 0.8), 0.09)
    for y in rng.integers(250, 440, 2):  # stickers, bands
        image[y : y + 12, :, :3] = np.clip(image[y : y + 12, :, :3] * rng.uniform(0.6, 1.5), 0, 255)
    return scaled(image, gain)


def fence_image(rng: np.random.Generator, style: Style, kind: str, gain: float) -> Image:
    """uint8 RGBA, 8 m long, `FENCE_HEIGHT[kind]` high, 40 pixels per metre; closed: one region."""
    h, w = round(FENCE_HEIGHT[kind] * 40), 320
    if kind == "wall":
        tone = jitter(rng, pick(rng, ((140, 84, 66), (150, 146, 140), (120, 76, 62))), 0.15)
        wall = wall_image(rng, 8.0, FENCE_HEIGHT[kind], tone, pick(rng, ("brick", "block")))
        image = np.asarray(cv2.resize(wall, (w, h), interpolation=cv2.INTER_AREA), dtype=np.uint8)
        image[:5, :, :3] = np.array(jitter(rng, (176, 172, 164), 0.1))
        image[5:7, :, :3] //= 2
        return scaled(image, gain)
    image = np.empty((h, w, 4), dtype=np.uint8)
    if kind in ("wood", "picket"):
        tone = jitter(
            rng, (136, 104, 70) if kind == "wood" else pick(rng, ((222, 220, 212), (150, 118, 84))), 0.2
        )
        board = 6
        steps = np.repeat(rng.uniform(0.82, 1.12, w // board + 1), board)[:w]
        image[...] = (*tone, 255)
        image[..., :3] = np.clip(image[..., :3] * steps[None, :, None], 0, 255)
        image[:, ::board, :3] = (np.array(tone) * 0.4).astype(np.uint8)
        if kind == "picket":
            image[:, 1::board, :3] = (np.array(tone) * 0.5).astype(np.uint8)
        rail = np.array(tone) * 0.75
        image[h // 5 : h // 5 + 4, :, :3] = image[h * 4 // 5 : h * 4 // 5 + 4, :, :3] = rail.astype(np.uint8)
        modulate(image, fractal(rng, h, w, 16, 4, 0.8), 0.1)
    else:
        # bars before a dark backing of shrubs or sheet metal
        back = jitter(rng, pick(rng, ((44, 54, 44), (60, 62, 66), (52, 50, 48))), 0.15)
        image[...] = (*back, 255)
        modulate(image, fractal(rng, h, w, 14, 4, 0.85), 0.22)
        bar = jitter(rng, pick(rng, ((150, 154, 158), (52, 92, 70), (190, 192, 194))), 0.12)
        if kind == "rail":
            for x in range(0, w, 6):
                cv2.line(image, (x, 0), (x, h), (*bar, 255), 2)
        else:
            for x in range(-h, w, 8):
                cv2.line(image, (x, 0), (x + h, h), (*bar, 255), 1)
                cv2.line(image, (x + h, 0), (x, h), (*bar, 255), 1)
        for y in (2, h - 6):
            cv2.line(image, (0, y), (w, y), (*bar, 255), 4)
    for x in range(0, w, 80):
        cv2.rectangle(
            image, (x, 0), (x + 5, h), (*(c * 0.75 for c in image[h // 2, x + 9, :3].tolist()), 255), -1
        )
    return scaled(image, gain)
