"""One street's stock of textures and cars, each drawn when first asked for and then kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np

from tilestream_street import cars, facades, furniture, ground, people, trees
from tilestream_street.noise import scaled
from tilestream_street.seeding import Topic, generator
from tilestream_street.style import Colour, make_style
from tilestream_street.surface import Texture

T = TypeVar("T")

FACADES = 3
TREES = 5
BUSHES = 3
PEOPLE = 6
CYCLISTS = 4
CARS = 9
ROADS = 2


@dataclass(frozen=True, slots=True)
class House:
    front: Texture
    roof: Texture
    wall: Colour
    width: float
    height: float
    roof_height: float
    depth: float


class Props:
    """Everything is a function of the seed and its own index, so order of use does not matter."""

    def __init__(self, seed: int) -> None:
        self._seed, self._style = seed, make_style(seed)
        self._kept: dict[tuple[object, ...], object] = {}

    def _keep(self, key: tuple[object, ...], make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]  # type: ignore[return-value]

    def _wall_gain(self, side: int) -> float:
        """Brightness of walls on one side of the street; those away from the sun's side are lit."""
        light = self._style.light
        return light.gain * (1.1 if side != self._style.sun_side else 1.1 / light.contrast)

    def house(self, side: int, width: int, index: int) -> House:
        def make() -> House:
            rng = generator(self._seed, Topic.FACADE, width, index)
            facade = facades.make_facade(rng, self._style, float(width), self._wall_gain(side))
            depth = float(rng.uniform(7, 11))
            roofed = facade.height < 11 and rng.random() < 0.75
            rise = depth / 2 * float(rng.uniform(0.55, 0.95)) if roofed else 0.0
            roof = facades.roof_image(rng, facade.roof, self._wall_gain(side))
            return House(
                Texture(facade.image), Texture(roof), facade.wall, facade.width, facade.height, rise, depth
            )

        return self._keep(("house", side, width, index), make)

    def gable(self, house: House) -> Texture:
        """The wall at a house's end, pointed where the house has a roof."""

        def make() -> Texture:
            rng = generator(self._seed, Topic.WALL, round(house.height * 100), round(house.depth * 100))
            rise, material = house.roof_height, "brick" if house.wall[0] > 1.25 * house.wall[2] else "plaster"
            image = facades.wall_image(rng, house.depth, house.height + rise, house.wall, material)
            gain = self._style.light.gain * (0.95 if np.cos(self._style.sun_azimuth) > 0 else 0.7)
            image = scaled(image, gain)
            if rise > 0:
                h, w = image.shape[:2]
                slope = rise / (house.height + rise) * h * np.abs(np.linspace(-1, 1, w))
                image[..., 3] = np.where(np.arange(h)[:, None] >= slope[None, :], 255, 0)
            return Texture(image, opaque=rise == 0, bleed=False)

        return self._keep(("gable", house.wall, house.height, house.depth), make)

    def tree(self, index: int) -> Texture:
        return self._keep(
            ("tree", index),
            lambda: Texture(
                trees.tree_image(generator(self._seed, Topic.TREE, index), self._style), opaque=False
            ),
        )

    def bush(self, index: int) -> Texture:
        return self._keep(
            ("bush", index),
            lambda: Texture(
                trees.bush_image(generator(self._seed, Topic.TREE, 100 + index), self._style), opaque=False
            ),
        )

    def tree_shadow(self) -> Texture:
        return self._keep(
            ("tree shadow",),
            lambda: Texture(trees.tree_shadow(generator(self._seed, Topic.TREE, 200), self._style)),
        )

    def car_shadow(self) -> Texture:
        return self._keep(("car shadow",), lambda: Texture(cars.car_shadow()))

    def car(self, index: int) -> cars.Car:
        kind = "bus" if index == CARS else None
        return self._keep(
            ("car", index), lambda: cars.make_car(generator(self._seed, Topic.CAR, index), self._style, kind)
        )

    def walker(self, index: int, phase: int, sideways: bool, mirrored: bool = False) -> Texture:
        def make() -> Texture:
            outfit = people.make_outfit(generator(self._seed, Topic.PERSON, index))
            rng = generator(self._seed, Topic.PERSON, index, int(sideways))
            image = people.walker_image(rng, self._style, outfit, phase / people.PHASES, sideways)
            return Texture(image[:, ::-1] if mirrored else image, opaque=False)

        return self._keep(("walker", index, phase, sideways, mirrored), make)

    def cyclist(self, index: int, phase: int, turn: int, mirrored: bool = False) -> Texture:
        """`turn` in quarters: 4 is the full side view, 1 nearly from the end."""

        def make() -> Texture:
            outfit = people.make_outfit(generator(self._seed, Topic.CYCLE, index))
            rng = generator(self._seed, Topic.CYCLE, index, turn)
            image = people.cyclist_image(rng, self._style, outfit, phase / people.PHASES, turn / 4)
            return Texture(image[:, ::-1] if mirrored else image, opaque=False)

        return self._keep(("cyclist", index, phase, turn, mirrored), make)

    def sign(self, kind: str) -> Texture:
        number = furniture.SIGN_KINDS.index(kind)
        return self._keep(
            ("sign", kind),
            lambda: Texture(
                furniture.sign_image(generator(self._seed, Topic.SIGN, number), self._style, kind),
                opaque=False,
            ),
        )

    def board(self, index: int) -> Texture:
        return self._keep(
            ("board", index),
            lambda: Texture(
                furniture.board_image(generator(self._seed, Topic.SIGN, 100 + index), self._style)
            ),
        )

    def light(self, state: int) -> Texture:
        return self._keep(
            ("light", state),
            lambda: Texture(furniture.light_image(generator(self._seed, Topic.SIGN, 200), state)),
        )

    def pole(self, index: int) -> Texture:
        def make() -> Texture:
            rng = generator(self._seed, Topic.POLE, index)
            tones = ((128, 130, 132), (96, 98, 98), (60, 66, 64), (150, 148, 140), (70, 84, 74))
            return Texture(
                furniture.pole_image(rng, tones[int(rng.integers(len(tones)))], self._style.light.gain)
            )

        return self._keep(("pole", index), make)

    def fence(self, kind: str, side: int) -> Texture:
        return self._keep(
            ("fence", kind, side),
            lambda: Texture(
                furniture.fence_image(
                    generator(self._seed, Topic.FENCE, side, len(kind)),
                    self._style,
                    kind,
                    self._wall_gain(side),
                )
            ),
        )

    def road(self, index: int, crossing: bool) -> Texture:
        return self._keep(
            ("road", index, crossing),
            lambda: Texture(
                ground.road_image(
                    generator(self._seed, Topic.GROUND, index, int(crossing)), self._style, crossing
                )
            ),
        )

    def pavement(self, side: int) -> Texture:
        return self._keep(
            ("pavement", side),
            lambda: Texture(
                ground.pavement_image(generator(self._seed, Topic.GROUND, 100 + side), self._style, side)
            ),
        )

    def kerb(self, side: int) -> Texture:
        return self._keep(
            ("kerb", side),
            lambda: Texture(
                ground.kerb_image(
                    generator(self._seed, Topic.GROUND, 200 + side), self._style, side != self._style.sun_side
                )
            ),
        )

    def grass(self) -> Texture:
        return self._keep(
            ("grass",),
            lambda: Texture(ground.grass_image(generator(self._seed, Topic.GROUND, 300), self._style)),
        )


@lru_cache(maxsize=2)
def shared_props(seed: int) -> Props:
    """Kept for the latest streets: drawing it takes long, and it fits every size and rate."""
    return Props(seed)
