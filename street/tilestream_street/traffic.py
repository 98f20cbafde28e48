"""What moves: cars, people, cyclists. Positions are functions of time alone, in any order."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tilestream_street.chunk import CROSSING_AT, KERB, has_crossing
from tilestream_street.classes import BICYCLIST, CAR, PEDESTRIAN
from tilestream_street.people import PHASES
from tilestream_street.props import CARS, CYCLISTS, PEOPLE, Props
from tilestream_street.raster import Decal
from tilestream_street.route import CHUNK_LENGTH, Drive, Route
from tilestream_street.seeding import Topic, generator
from tilestream_street.style import Style
from tilestream_street.surface import Floats, Quads, parallelogram
from tilestream_street.upright import Upright

AHEAD = 110.0
BEHIND = 8.0
_CAR_RANGE = 75.0
_BASE = 1 << 52
_PARK, _ONCOMING, _LEAD, _WALK, _RIDE, _CROSS = range(6)


@dataclass(slots=True)
class Moving:
    """Cars as quads; people as uprights. Parked cars are here too: they share the cars' code."""

    quads: Quads = field(default_factory=Quads)
    uprights: list[Upright] = field(default_factory=list)
    decals: list[Decal] = field(default_factory=list)


class Traffic:
    """The moving things of one street."""

    def __init__(
        self, seed: int, style: Style, props: Props, route: Route, drive: Drive, origin: float
    ) -> None:
        self._seed, self._style, self._props = seed, style, props
        self._route, self._drive, self._origin = route, drive, origin
        self._rolled: dict[tuple[int, ...], list[float]] = {}
        self._crossings: dict[int, bool] = {}
        self._poses: dict[tuple[float, float, bool], Floats] = {}

    def at(self, seconds: float) -> Moving:
        """Everything near the ego car at a time."""
        out = Moving()
        here = self._origin + self._drive.at(seconds)[0]
        self._parked(out, here)
        self._oncoming(out, here, seconds)
        self._leading(out, here, seconds)
        for side in (-1, 1):
            for way in (-1, 1):
                self._walkers(out, here, seconds, side, way)
        for way in (-1, 1):
            self._riders(out, here, seconds, way)
        self._crossers(out, here, seconds)
        return out

    def _dice(self, *path: int) -> list[float]:
        """Eight random numbers in [0, 1) that belong to one thing; kept, for every frame asks again."""
        dice = self._rolled.get(path)
        if dice is None:
            if len(self._rolled) > 8192:
                self._rolled.clear()
            dice = self._rolled[path] = generator(self._seed, Topic.TRAFFIC, *path).random(8).tolist()
        return dice

    def _crossing(self, chunk: int) -> bool:
        if chunk not in self._crossings:
            self._crossings[chunk] = has_crossing(self._seed, self._style, chunk)
        return self._crossings[chunk]

    def _pose(self, s: float, d: float, reverse: bool = False) -> Floats:
        """float64 [4, 4] from an object's axes to the world; `d` metres right of the centre line."""
        (x, z), heading = self._route.pose(s)
        cos, sin = np.cos(heading), np.sin(heading)
        turn = -1.0 if reverse else 1.0
        return np.array(
            [
                [cos * turn, 0, sin * turn, x + d * cos],
                [0, 1, 0, 0],
                [-sin * turn, 0, cos * turn, z - d * sin],
                [0, 0, 0, 1],
            ]
        )

    def _slots(self, here: float, gap: float, offset: float, ahead: float) -> range:
        """Slots i whose place i * gap + offset lies in view."""
        return range(
            int(np.ceil((here - BEHIND - offset) / gap)), int(np.floor((here + ahead - offset) / gap)) + 1
        )

    def _car(self, out: Moving, lane: int, slot: int, index: int, s: float, d: float, reverse: bool) -> None:
        car = self._props.car(index)
        place = (s, d, reverse)
        pose = self._poses.get(place)  # parked cars ask for theirs in every frame
        if pose is None:
            if len(self._poses) > 2048:
                self._poses.clear()
            pose = self._poses[place] = self._pose(*place)
        key = _BASE + (lane << 44) + ((slot + (1 << 30)) << 8)
        for k, (frame, texture, facing) in enumerate(
            zip(pose @ car.frames, car.textures, car.facing, strict=True)
        ):
            out.quads.add(frame, key + k, CAR, texture, facing)
        half, long = car.width / 2 + 0.25, car.length / 2 + 0.3
        shadow = parallelogram(
            np.array([-half, 0, long]), np.array([2 * half, 0, 0]), np.array([0, 0, -2 * long])
        )
        out.decals.append(Decal(pose @ shadow, self._props.car_shadow()))

    def _parked(self, out: Moving, here: float) -> None:
        style = self._style
        for side, parking in ((-1, style.parking[0]), (1, style.parking[1])):
            if parking == 0:
                continue
            gap = 6.4
            for slot in self._slots(here, gap, 0.0, _CAR_RANGE):
                dice = self._dice(_PARK, side, slot)
                chunk = int(slot * gap // CHUNK_LENGTH)
                near_crossing = self._crossing(chunk) and 2 < slot * gap - chunk * CHUNK_LENGTH < 15
                if dice[0] > style.parked or near_crossing:
                    continue
                index = int(dice[1] * CARS)
                d = side * (style.lane + parking / 2 + 0.16 * (dice[2] - 0.5))
                self._car(out, _PARK * 2 + (side > 0), slot, index, slot * gap, d, side != style.drive_side)

    def _oncoming(self, out: Moving, here: float, seconds: float) -> None:
        style = self._style
        speed = -6.0 - 5.0 * self._dice(_ONCOMING)[0]
        for slot in self._slots(here, style.oncoming_gap, speed * seconds, _CAR_RANGE):
            dice = self._dice(_ONCOMING, slot)
            if dice[0] < 0.2:
                continue
            s = (slot + 0.4 * (dice[1] - 0.5)) * style.oncoming_gap + speed * seconds
            index = CARS if dice[2] < 0.08 else int(dice[3] * CARS)
            d = -style.drive_side * (style.lane / 2 + 0.25 * dice[4] - 0.15)
            self._car(out, 2 + _ONCOMING * 2, slot, index, s, d, True)

    def _leading(self, out: Moving, here: float, seconds: float) -> None:
        first = self._dice(_LEAD)
        gap = 11.0 + 13.0 * first[0]
        for k in range(int(first[1] * 4)):
            dice = self._dice(_LEAD, k)
            index = int(dice[0] * CARS)
            if dice[1] < 0.06 and k > 0:  # a bus right ahead would hide the street
                index = CARS
            phase = 2 * np.pi * dice[2]
            s = here + gap + 0.18 * gap * float(np.sin(seconds * 0.4 + phase))
            self._car(out, 2 + _LEAD * 2, k, index, s, self._style.drive_side * self._style.lane / 2, False)
            gap += 13.0 + 13.0 * dice[3]

    def _walkers(self, out: Moving, here: float, seconds: float, side: int, way: int) -> None:
        style = self._style
        base = self._dice(_WALK, side, way)
        gap, speed = style.people_gap * (1.2 + 1.2 * base[0]), way * (1.1 + 0.5 * base[1])
        road, wall = (
            (style.half_road[0], style.facade[0]) if side < 0 else (style.half_road[1], style.facade[1])
        )
        for slot in self._slots(here, gap, speed * seconds, 60.0):
            place = self._dice(_WALK, side, way, slot)
            s = (slot + 0.8 * (place[0] - 0.5)) * gap + speed * seconds
            company = 1 + int(place[1] < 0.3)
            d = side * (road + 0.9 + place[2] * max(0.1, wall - road - 1.3))
            for k in range(company):
                dice = self._dice(_WALK, side, way, slot, k)
                index, scale = int(dice[0] * PEOPLE), 0.9 + 0.18 * dice[1]
                phase = int((seconds * 1.0 + dice[2]) * PHASES) % PHASES
                # seen at an angle from the road, a walker along it shows some of the side
                sideways = dice[3] < 0.3
                texture = self._props.walker(index, phase, sideways, sideways and way * side > 0)
                (x, z), heading = self._route.pose(s + 0.2 * k)
                dk = d + 0.6 * k
                foot = np.array([x + dk * np.cos(heading), -KERB, z - dk * np.sin(heading)])
                key = _BASE + ((12 + (side > 0) * 2 + (way > 0)) << 44) + ((slot + (1 << 30)) << 8) + k
                out.uprights.append(Upright(foot, 0.9 * scale, 1.8 * scale, texture, PEDESTRIAN, key, 15.0))

    def _riders(self, out: Moving, here: float, seconds: float, way: int) -> None:
        style = self._style
        base = self._dice(_RIDE, way)
        gap, speed = style.cyclist_gap * (0.8 + 0.5 * base[0]), way * (3.0 + 2.0 * base[1])
        side = style.drive_side * way
        for slot in self._slots(here, gap, speed * seconds, 60.0):
            dice = self._dice(_RIDE, way, slot)
            s = (slot + 0.7 * (dice[0] - 0.5)) * gap + speed * seconds
            # between the moving and the parked cars
            d = side * (style.lane - 0.4 + 0.2 * dice[1])
            index = int(dice[2] * CYCLISTS)
            phase = int((seconds * 1.3 + dice[3]) * PHASES) % PHASES
            texture = self._props.cyclist(index, phase, 1 + int(dice[4] * 2), dice[5] < 0.5)
            (x, z), heading = self._route.pose(s)
            foot = np.array([x + d * np.cos(heading), 0.0, z - d * np.sin(heading)])
            key = _BASE + ((17 + (way > 0)) << 44) + ((slot + (1 << 30)) << 8)
            out.uprights.append(Upright(foot, 1.8, 1.8, texture, BICYCLIST, key, 15.0))

    def _crossers(self, out: Moving, here: float, seconds: float) -> None:
        """People and cyclists to and fro over the zebra crossings; they keep clear of the ego car."""
        style = self._style
        first, last = int((here - BEHIND) // CHUNK_LENGTH), int((here + 60) // CHUNK_LENGTH)
        for chunk in range(first, last + 1):
            if not self._crossing(chunk):
                continue
            centre = chunk * CHUNK_LENGTH + CROSSING_AT
            for k in range(2 + int(self._dice(_CROSS, chunk)[0] * 3)):
                dice = self._dice(_CROSS, chunk, k)
                rides = dice[0] < 0.35
                speed = 2.5 + 1.5 * dice[1] if rides else 1.0 + 0.5 * dice[1]
                left, right = style.facade[0] - 0.5, style.facade[1] - 0.5
                span = left + right
                turns = (seconds * speed / span + 2.0 * dice[2]) % 2.0
                back = turns > 1.0
                d = -left + span * (2.0 - turns if back else turns)
                s = centre + 2.6 * (dice[3] - 0.5)
                index, scale, start = int(dice[4] * PEOPLE), 0.9 + 0.18 * dice[5], dice[6]
                ego = style.drive_side * style.lane / 2
                if abs(d - ego) < 2.2 and s - here < 9.0:
                    continue
                (x, z), heading = self._route.pose(s)
                on_road = -style.half_road[0] < d < style.half_road[1]
                foot = np.array([x + d * np.cos(heading), 0.0 if on_road else -KERB, z - d * np.sin(heading)])
                key = _BASE + (20 << 44) + ((chunk + (1 << 30)) << 8) + k
                if rides:
                    phase = int((seconds * 1.1 + start) * PHASES) % PHASES
                    texture = self._props.cyclist(index % CYCLISTS, phase, 4, back)
                    out.uprights.append(Upright(foot, 1.8, 1.8, texture, BICYCLIST, key, 15.0))
                else:
                    phase = int((seconds * 0.95 + start) * PHASES) % PHASES
                    texture = self._props.walker(index, phase, True, back)
                    out.uprights.append(
                        Upright(foot, 0.9 * scale, 1.8 * scale, texture, PEDESTRIAN, key, 15.0)
                    )
