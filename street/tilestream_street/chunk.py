"""What stands still: ground, houses, fences, trees, poles, signs of one chunk of the street."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tilestream_street.classes import BUILDING, FENCE, PAVEMENT, POLE, ROAD, SIGN, TREE
from tilestream_street.furniture import FENCE_HEIGHT, SIGN_KINDS
from tilestream_street.props import BUSHES, FACADES, ROADS, TREES, Props
from tilestream_street.raster import Decal
from tilestream_street.route import Route
from tilestream_street.seeding import Topic, generator, pick
from tilestream_street.style import Style
from tilestream_street.surface import Floats, Quads, Texture, ground_quad, parallelogram
from tilestream_street.upright import Fixed, Upright

KERB = 0.12
"""Height of the pavement above the road, metres."""
CROSSING_AT = 8.2
"""Metres from a chunk's start to the middle of its zebra crossing (the texture's far end is v = 0)."""
_LOTS: tuple[tuple[int, ...], ...] = ((16,), (8, 8), (6, 10), (10, 6), (8, 8), (10, 6))


@dataclass(slots=True)
class Chunk:
    quads: Quads = field(default_factory=Quads)
    uprights: list[Upright] = field(default_factory=list)
    fixed: list[Fixed] = field(default_factory=list)
    decals: list[Decal] = field(default_factory=list)


def has_crossing(seed: int, style: Style, index: int) -> bool:
    return index % 2 == 0 and bool(generator(seed, Topic.CHUNK, index, 1).random() < style.crossings)


class ChunkBuilder:
    """Lays out one chunk in its own axes (x right of the centre line, z along it)."""

    def __init__(self, seed: int, style: Style, props: Props, route: Route, index: int) -> None:
        self._style, self._props, self._route, self._index = style, props, route, index
        self._rng = generator(seed, Topic.CHUNK, index)
        self._crossing = has_crossing(seed, style, index)
        heading = route.heading(index)
        self._start = route.start(index)
        self._right = np.array([np.cos(heading), 0.0, -np.sin(heading)])
        self._ahead = np.array([np.sin(heading), 0.0, np.cos(heading)])
        self._count = 0
        self._chunk = Chunk()

    def build(self) -> Chunk:
        self._ground()
        for side in (-1, 1):
            self._lots(side)
            self._kerbside(side)
        return self._chunk

    def _key(self) -> int:
        self._count += 1
        return (self._index << 16) + self._count + 16

    def _at(self, x: float, y: float, z: float) -> Floats:
        """World point of chunk coordinates; y is the height above the road."""
        origin = np.array([self._start[0], -y, self._start[1]])
        return np.asarray(origin + x * self._right + z * self._ahead)

    def _quad(self, near: Floats, far: Floats, height: float, label: int, texture: Texture) -> None:
        """An upright wall standing on the line from `near` (u = 0) to `far`."""
        up = np.array([0.0, height, 0.0])
        self._chunk.quads.add(parallelogram(near - up, far - near, up), self._key(), label, texture)

    # -- ground ---------------------------------------------------------------------------------

    def _mitre(self, index: int, d: float) -> Floats:
        """(x, z) of the point `d` metres right of the centre line at the joint before chunk `index`."""
        before, after = self._route.heading(index - 1), self._route.heading(index)
        mean, half = (before + after) / 2, (after - before) / 2
        across = np.array([np.cos(mean), -np.sin(mean)])
        return np.asarray(self._route.start(index) + d / np.cos(half) * across)

    def _strip(self, d0: float, d1: float, height: float, label: int, texture: Texture) -> None:
        k = self._index
        corners = np.array(
            [self._mitre(k + 1, d0), self._mitre(k + 1, d1), self._mitre(k, d1), self._mitre(k, d0)]
        )
        self._chunk.quads.add(ground_quad(corners, -height), self._key(), label, texture)

    def _ground(self) -> None:
        style, props = self._style, self._props
        left, right = style.half_road
        k = self._index
        self._strip(-left, right, 0.0, ROAD, props.road(int(self._rng.integers(ROADS)), self._crossing))
        for side, road, wall in ((-1, left, style.facade[0]), (1, right, style.facade[1])):
            inner, outer = side * road, side * wall
            self._strip(min(inner, outer), max(inner, outer), KERB, PAVEMENT, props.pavement(side))
            near, far = (
                np.array([p[0], -KERB, p[1]]) for p in (self._mitre(k, inner), self._mitre(k + 1, inner))
            )
            face = parallelogram(near, far - near, np.array([0.0, KERB, 0.0]))
            self._chunk.fixed.append(Fixed(face, props.kerb(side), PAVEMENT, self._key(), KERB, 1.0))

    # -- behind the pavement ----------------------------------------------------------------------

    def _lots(self, side: int) -> None:
        rng, style = self._rng, self._style
        edge = style.facade[0] if side < 0 else style.facade[1]
        z, hidden, open_ground = 0.0, 0.0, False
        for width in pick(rng, _LOTS):
            built = rng.random() < style.built
            flush = built and rng.random() < style.town
            open_ground |= not flush
            if built:
                setback = 0.0 if flush else float(rng.uniform(2.5, 7.0))
                height = self._house(side, edge + setback, z, width, hidden)
                hidden = height if flush else 0.0
            else:
                hidden = 0.0
            if not flush:
                self._frontage(side, edge, z, width, built)
            z += width
        if open_ground:  # else houses hide it
            inner, outer = side * edge, side * (edge + 40.0)
            self._strip(min(inner, outer), max(inner, outer), KERB, TREE, self._props.grass())

    def _house(self, side: int, x: float, z: float, width: int, hidden: float) -> float:
        """Builds a house, the lower `hidden` metres of its gable behind the one before; gives its height."""
        house = self._props.house(side, width, int(self._rng.integers(FACADES)))
        near, far = self._at(side * x, 0.0, z), self._at(side * x, 0.0, z + width)
        # pictures read from left to right as seen from the road
        first, last = (far, near) if side > 0 else (near, far)
        self._quad(first, last, house.height, BUILDING, house.front)
        back = self._at(side * (x + house.depth), 0.0, z)
        ends = (near, back) if side > 0 else (back, near)
        if house.height + house.roof_height > hidden:
            self._quad(*ends, house.height + house.roof_height, BUILDING, self._props.gable(house))
        if house.roof_height > 0:
            eave = self._at(side * (x - 0.25), house.height - 0.1, z)
            ridge = self._at(side * (x + house.depth / 2), house.height + house.roof_height, z)
            along = (far - near) * 1.0
            self._chunk.quads.add(
                parallelogram(ridge, along, eave - ridge), self._key(), BUILDING, house.roof
            )
        return house.height

    def _frontage(self, side: int, edge: float, z: float, width: int, built: bool) -> None:
        """Fence or hedge along the pavement, with bushes and trees behind."""
        rng, style = self._rng, self._style
        if rng.random() < style.fences or not built:
            kind = pick(rng, tuple(FENCE_HEIGHT))
            texture = self._props.fence(kind, side)
            pieces = max(1, round(width / 8))
            step = width / pieces
            for k in range(pieces):
                near = self._at(side * (edge + 0.05), KERB, z + k * step)
                far = self._at(side * (edge + 0.05), KERB, z + (k + 1) * step)
                self._quad(near, far, FENCE_HEIGHT[kind], FENCE, texture)
        for _ in range(int(rng.integers(1, 3)) if built else int(rng.integers(3, 6))):
            x = edge + float(rng.uniform(1.2, 2.2) if built else rng.uniform(1.5, 12.0))
            at = self._at(side * x, KERB, z + float(rng.uniform(0.5, width - 0.5)))
            if rng.random() < (0.5 if built else 0.2):
                texture = self._props.bush(int(rng.integers(BUSHES)))
                self._upright(
                    at, float(rng.uniform(2.0, 3.5)), float(rng.uniform(0.9, 1.8)), TREE, texture, 8
                )
            else:
                height = float(rng.uniform(4.5, 9.0))
                self._upright(at, height * 0.7, height, TREE, self._props.tree(int(rng.integers(TREES))), 8)

    # -- at the kerb ------------------------------------------------------------------------------

    def _upright(
        self, foot: Floats, width: float, height: float, label: int, texture: Texture, min_height: float,
        min_width: float = 0.0,
    ) -> None:  # fmt: skip
        self._chunk.uprights.append(
            Upright(foot, width, height, texture, label, self._key(), min_height, min_width)
        )

    def _pole(self, x: float, z: float, height: float, width: float, index: int) -> None:
        # min_height bounds the distance at which poles are drawn: about 55 m for a lamp post
        self._upright(self._at(x, KERB, z), width, height, POLE, self._props.pole(index), height * 7.0, 3.2)

    def _fix(
        self,
        x: float,
        y: float,
        z: float,
        width: float,
        height: float,
        label: int,
        texture: Texture,
        min_size: float,
    ) -> None:
        """A picture across the street, its centre at (x, y, z)."""
        corner = self._at(x - width / 2, y + height / 2, z)
        frame = parallelogram(corner, self._right * width, np.array([0.0, height, 0.0]))
        self._chunk.fixed.append(Fixed(frame, texture, label, self._key(), min(width, height), min_size))

    def _kerbside(self, side: int) -> None:
        rng, style, props = self._rng, self._style, self._props
        road = style.half_road[0] if side < 0 else style.half_road[1]
        x = side * (road + 0.5)
        lamp_side = 1 if (self._index // style.lamp_gap) % 2 == 0 else -1
        if side == lamp_side or style.lamp_gap == 1:
            z = float(rng.uniform(0.5, 3.0))
            height = 6.2 + 1.6 * ((style.sun_azimuth * 5) % 1.0)
            self._pole(x, z, height, 0.2, 0)
            self._fix(x - side * 0.8, KERB + height - 0.05, z, 1.7, 0.16, POLE, props.pole(1), 1.6)
            self._fix(x - side * 1.7, KERB + height - 0.1, z - 0.02, 0.75, 0.24, POLE, props.pole(2), 2.4)
        if self._crossing:
            self._traffic_light(side, x)
        elif rng.random() < style.signs * 0.62:
            self._sign(side, x, float(rng.uniform(4.0, 12.0)))
        wide = style.pavement[0] if side < 0 else style.pavement[1]
        if wide > 2.2 and rng.random() < style.street_trees and not self._crossing:
            for z in (5.0 + float(rng.uniform(-1, 1)), 13.0 + float(rng.uniform(-1, 1))):
                if rng.random() < 0.25:
                    continue
                height = float(rng.uniform(4.5, 7.5))
                foot = self._at(x + side * 0.2, KERB, z)
                self._upright(foot, height * 0.66, height, TREE, props.tree(int(rng.integers(TREES))), 8)
                if style.light.shadow > 0.1:
                    size = height * 0.7
                    corner = self._at(
                        x - side * style.sun_side * 0.0 - size / 2 - style.sun_side * 1.2, 0.0, z + size / 2
                    )
                    frame = parallelogram(corner, self._right * size, -self._ahead * size)
                    self._chunk.decals.append(Decal(frame, props.tree_shadow()))
        elif rng.random() < style.fences * 0.35:
            kind = pick(rng, ("rail", "mesh"))
            near, far = self._at(side * (road + 0.3), KERB, 0.5), self._at(side * (road + 0.3), KERB, 8.5)
            self._quad(near, far, 1.05, FENCE, props.fence(kind, side))

    def _sign(self, side: int, x: float, z: float) -> None:
        rng, props = self._rng, self._props
        if rng.random() < 0.16:
            for dx in (-0.9, 0.9):
                self._pole(x + side * 0.6 + dx, z, 3.6, 0.13, 1)
            self._fix(
                x + side * 0.6, 3.0 + KERB, z - 0.12, 2.6, 1.3, SIGN, props.board(int(rng.integers(2))), 7
            )
            return
        height = float(rng.uniform(2.7, 3.3))
        size = float(rng.uniform(0.8, 1.1))
        self._pole(x, z, height, 0.12, 1 + int(rng.integers(2)))
        self._fix(
            x, height - size / 2 + KERB, z - 0.1, size, size, SIGN, props.sign(pick(rng, SIGN_KINDS)), 7
        )
        if rng.random() < 0.3:
            self._fix(x, height - size * 1.45 + KERB, z - 0.1, size, size * 0.8, SIGN, props.sign("arrow"), 7)

    def _traffic_light(self, side: int, x: float) -> None:
        z = CROSSING_AT + 3.2
        state = (0, 2)[int(generator(self._index, Topic.SIGN, side).integers(2))]
        self._pole(x, z, 3.5, 0.16, 2)
        self._fix(x, 3.1 + KERB, z - 0.15, 0.46, 1.05, SIGN, self._props.light(state), 5)
        if side == self._style.drive_side and self._rng.random() < 0.6:
            reach = 2.6
            self._pole(x + side * 0.4, z + 0.3, 6.0, 0.2, 0)
            self._fix(
                x + side * 0.4 - side * reach / 2, 5.9, z + 0.3, reach, 0.18, POLE, self._props.pole(0), 1.8
            )
            self._fix(x - side * (reach - 0.5), 5.5, z + 0.15, 0.46, 1.05, SIGN, self._props.light(state), 5)
