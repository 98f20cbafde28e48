"""Walking people and cyclists as sprites."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from tilestream_street.noise import Image, fractal, modulate, scaled
from tilestream_street.seeding import pick
from tilestream_street.style import Colour, Style

PHASES = 8
"""Drawn poses per walking or pedalling cycle."""
_SKIN: tuple[Colour, ...] = ((224, 180, 150), (200, 150, 118), (150, 104, 78), (96, 66, 50))
_HAIR: tuple[Colour, ...] = ((40, 30, 24), (84, 58, 36), (170, 136, 84), (130, 128, 126), (24, 22, 22))
_TOPS: tuple[Colour, ...] = (
    (36, 40, 56), (120, 36, 40), (60, 90, 130), (200, 196, 186), (50, 50, 52), (150, 120, 80), (70, 100, 70),
    (190, 90, 50), (96, 70, 110), (220, 190, 70),
)  # fmt: skip
_LEGS: tuple[Colour, ...] = ((36, 38, 48), (52, 62, 92), (70, 64, 58), (26, 26, 28), (110, 98, 80))


@dataclass(frozen=True, slots=True)
class Outfit:
    skin: Colour
    hair: Colour
    top: Colour
    legs: Colour
    shoes: Colour
    build: float
    bag: Colour | None
    coat: bool
    helmet: Colour | None
    frame: Colour


def make_outfit(rng: np.random.Generator) -> Outfit:
    def near(colour: Colour) -> Colour:
        r, g, b = (float(np.clip(c * rng.uniform(0.8, 1.2), 0, 255)) for c in colour)
        return r, g, b

    return Outfit(
        near(pick(rng, _SKIN)), near(pick(rng, _HAIR)), near(pick(rng, _TOPS)), near(pick(rng, _LEGS)),
        (34.0, 30.0, 28.0), float(rng.uniform(0.88, 1.18)),
        near(pick(rng, _TOPS)) if rng.random() < 0.5 else None, bool(rng.random() < 0.35),
        near(pick(rng, (*_TOPS, (235, 235, 235)))) if rng.random() < 0.6 else None,
        near(pick(rng, ((170, 40, 36), (40, 60, 110), (30, 30, 32), (200, 200, 200), (40, 110, 80)))),
    )  # fmt: skip


def _ink(colour: Colour, gain: float = 1.0) -> tuple[float, float, float, float]:
    r, g, b = (min(255.0, c * gain) for c in colour)
    return r, g, b, 255.0


def _limb(image: Image, points: list[tuple[float, float]], thick: float, ink: tuple[float, ...]) -> None:
    for a, b in pairwise(points):
        cv2.line(image, (round(a[0]), round(a[1])), (round(b[0]), round(b[1])), ink, max(1, round(thick)))


def _finish(image: Image, rng: np.random.Generator, style: Style) -> Image:
    h, w = image.shape[:2]
    modulate(image, fractal(rng, h, w, 14, 3, 0.8), 0.07)
    sides = np.linspace(1.14, 0.82, w, dtype=np.float32)
    image[..., :3] = np.clip(image[..., :3] * sides[None, :, None], 0, 255)
    return scaled(image, style.light.gain)


def walker_image(
    rng: np.random.Generator, style: Style, outfit: Outfit, phase: float, sideways: bool
) -> Image:
    """uint8 RGBA [192, 96, 4], 1.8 m by 0.9 m; `phase` in turns, sideways to the right."""
    image = np.zeros((192, 96, 4), dtype=np.uint8)
    cx, hip, shoulder, head = 48.0, 98.0, 44.0, 19.0
    swing = np.sin(2 * np.pi * phase)
    bob = 2.0 * abs(np.cos(2 * np.pi * phase))
    b = outfit.build
    for leg, sign in ((0, -1.0), (1, 1.0)):
        s = swing * sign
        dark = 0.75 if leg == 0 else 1.0
        if sideways:
            knee = (cx + 17 * s + 4, 140.0)
            foot = (cx + 25 * s - (9 if s < 0 else 0), 184.0 - max(0.0, -s) * 8)
            hip_x = cx
        else:
            hip_x = cx + 8 * sign * b
            knee, foot = (hip_x + sign, 140.0), (hip_x + sign, 184.0 - max(0.0, s) * 14)
        _limb(image, [(hip_x, hip), knee, foot], 14 * b, _ink(outfit.legs, dark))
        toe = (foot[0] + (9 if sideways else 0), foot[1] + 3)
        _limb(image, [foot, toe], 8, _ink(outfit.shoes))
    # the far arm lies behind the body
    reach = 20 * swing if sideways else 3.0

    def arm(sign: float, dark: float) -> None:
        x = cx if sideways else cx + sign * 20 * b
        hand = (x + sign * reach, 104.0 + (0 if sideways else 4 * sign * swing))
        elbow = (x + sign * reach * 0.45 - (2 if sideways else 0), 76.0)
        _limb(image, [(x, shoulder + 8), elbow, hand], 9 * b, _ink(outfit.top, dark))
        cv2.circle(image, (round(hand[0]), round(hand[1])), 5, _ink(outfit.skin, dark), -1)

    arm(-1.0, 0.7)
    half = (13 if sideways else 18) * b
    bottom = 122 if outfit.coat else hip + 8
    body = np.array([(cx - half, shoulder), (cx - half * 0.6, shoulder - 5), (cx + half * 0.6, shoulder - 5),
                     (cx + half, shoulder), (cx + half * 0.92, bottom),
                     (cx - half * 0.92, bottom)])  # fmt: skip
    cv2.fillPoly(image, [body.astype(np.int32)], _ink(outfit.top))
    if outfit.bag is not None:
        if sideways:
            cv2.rectangle(image, (round(cx - half - 9), 50), (round(cx - half + 3), 86), _ink(outfit.bag), -1)
        else:
            cv2.rectangle(
                image, (round(cx + half - 2), 84), (round(cx + half + 12), 112), _ink(outfit.bag), -1
            )
    arm(1.0, 0.9)
    cv2.rectangle(image, (round(cx - 5), 30), (round(cx + 5), 42), _ink(outfit.skin, 0.85), -1)
    cv2.ellipse(
        image, (round(cx + (2 if sideways else 0)), round(head)), (10, 14), 0, 0, 360, _ink(outfit.skin), -1
    )
    cv2.ellipse(
        image,
        (round(cx - (2 if sideways else 0)), round(head - 4)),
        (11, 12),
        0,
        150,
        390,
        _ink(outfit.hair),
        -1,
    )
    image = np.roll(image, -int(bob), axis=0)
    return _finish(image, rng, style)


def cyclist_image(rng: np.random.Generator, style: Style, outfit: Outfit, phase: float, turn: float) -> Image:
    """uint8 RGBA [192, 192, 4], 1.8 m by 1.8 m; rides to the right.

    `turn` in (0, 1]: how much of the side is seen; towards 0 the bicycle is seen from its end.
    """
    image = np.zeros((192, 192, 4), dtype=np.uint8)
    cx = 96.0

    def at(x: float, y: float) -> tuple[float, float]:
        return cx + x * turn, y

    def limb(points: list[tuple[float, float]], thick: float, ink: tuple[float, ...]) -> None:
        _limb(image, [at(*p) for p in points], thick, ink)

    tyre = (26.0, 26.0, 28.0, 255.0)
    radius, axle = 34.0, 154.0
    for x in (-52.0, 52.0):
        centre = (round(at(x, 0)[0]), round(axle))
        size = (max(3, round(radius * turn)), round(radius))
        # spokes and what is seen between them: a solid disc, so that the wheel is one region
        cv2.ellipse(image, centre, size, 0, 0, 360, (104, 106, 108, 255), -1)
        for k in range(8):
            angle = np.pi * k / 8 + phase * 2 * np.pi
            dx, dy = np.cos(angle) * size[0], np.sin(angle) * size[1]
            ends = (round(centre[0] - dx), round(axle - dy)), (round(centre[0] + dx), round(axle + dy))
            cv2.line(image, *ends, (168, 168, 170, 255), 1)
        cv2.ellipse(image, centre, size, 0, 0, 360, tyre, 6)
    frame = _ink(outfit.frame)
    crank, seat, steer = (-6.0, 152.0), (-20.0, 100.0), (38.0, 98.0)
    pedal = [
        (crank[0] + 13 * np.cos(a), crank[1] + 13 * np.sin(a))
        for a in (2 * np.pi * phase, 2 * np.pi * phase + np.pi)
    ]
    hip, shoulder = (-20.0, 92.0), (8.0, 44.0)

    def leg(k: int, dark: float, side: float) -> None:
        foot = pedal[k]
        knee = ((hip[0] + foot[0]) / 2 + 20, (hip[1] + foot[1]) / 2 - 4)
        spread = side * 9 * (1 - turn)
        points = [(at(x, y)[0] + spread, y) for x, y in (hip, knee, foot)]
        _limb(image, points, 14, _ink(outfit.legs, dark))
        _limb(image, [points[2], (points[2][0] + 10 * turn, points[2][1])], 8, _ink(outfit.shoes))

    leg(0, 0.7, -1.0)
    limb([(-52.0, axle), crank, steer, seat, crank], 6, frame)
    limb([(-52.0, axle), seat], 5, frame)
    limb([(52.0, axle), steer, (34.0, 88.0)], 6, frame)
    limb([(-30.0, 97.0), (-8.0, 97.0)], 8, tyre)
    bar = 22 * (1 - turn) + 4
    x, y = at(38.0, 88.0)
    cv2.line(image, (round(x - bar), round(y)), (round(x + bar), round(y)), tyre, 6)
    leg(1, 1.0, 1.0)
    wide = 14 + 5 * (1 - turn)
    a, b = at(*hip), at(*shoulder)
    torso = np.array(
        [(a[0] - wide, a[1] + 6), (b[0] - wide, b[1]), (b[0] + wide * 0.8, b[1] - 4), (a[0] + wide, a[1] + 6)]
    )
    cv2.fillPoly(image, [torso.astype(np.int32)], _ink(outfit.top))
    for side in (-1.0, 1.0):
        spread = side * 18 * (1 - turn)
        points = [(b[0] + spread, b[1] + 6), (at(24.0, 76.0)[0] + spread * 1.2, 74.0), (x + spread, y)]
        _limb(image, points, 9, _ink(outfit.top, 0.85))
    if outfit.bag is not None:
        cv2.rectangle(
            image, (round(a[0] - wide - 8 * turn), 52), (round(a[0] + wide * 0.3), 84), _ink(outfit.bag), -1
        )
    hx, hy = at(20.0, 22.0)
    cv2.ellipse(image, (round(hx), round(hy)), (11, 14), 0, 0, 360, _ink(outfit.skin), -1)
    top = outfit.helmet or outfit.hair
    cv2.ellipse(image, (round(hx), round(hy - 4)), (13, 12), 0, 175, 365, _ink(top), -1)
    return _finish(image, rng, style)
