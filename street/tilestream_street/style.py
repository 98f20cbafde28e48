"""What makes one seed's street differ from another's: layout, densities, palettes, light, camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilestream_street.seeding import Topic, generator, pick

Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Light:
    name: str
    gain: float
    cast: Colour
    contrast: float
    """Brightness of sunlit over shaded walls, as a ratio above 1."""
    shadow: float
    """Darkness of cast shadows, 0 to 1."""
    haze: Colour
    haze_range: float
    """Metres at which haze takes 63 % of the colour."""
    zenith: Colour
    horizon: Colour
    clouds: float
    cloud: Colour
    lit_windows: float


_LIGHTS: tuple[Light, ...] = (
    Light("noon", 1.05, (1.02, 1.0, 0.97), 1.6, 0.5, (190, 205, 220), 380,
          (72, 122, 196), (184, 208, 232), 0.35, (246, 246, 248), 0.0),
    Light("clear", 1.0, (1.05, 1.0, 0.92), 1.75, 0.55, (200, 208, 214), 420,
          (88, 138, 206), (204, 218, 230), 0.15, (250, 246, 240), 0.0),
    Light("overcast", 0.92, (0.97, 1.0, 1.03), 1.1, 0.15, (196, 200, 204), 220,
          (178, 184, 192), (216, 218, 220), 0.7, (226, 226, 228), 0.05),
    Light("grey", 0.8, (0.98, 1.0, 1.02), 1.08, 0.12, (168, 172, 178), 170,
          (140, 148, 158), (192, 194, 198), 0.8, (200, 200, 204), 0.15),
    Light("dusk", 0.72, (1.1, 0.98, 0.9), 1.35, 0.3, (196, 168, 150), 240,
          (84, 96, 140), (236, 190, 150), 0.5, (206, 150, 140), 0.4),
    Light("morning", 0.95, (1.06, 1.0, 0.93), 1.45, 0.4, (220, 210, 194), 200,
          (130, 164, 208), (240, 226, 204), 0.4, (250, 236, 220), 0.05),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Style:
    drive_side: int
    """+1: traffic keeps to the right, -1: to the left."""
    lane: float
    parking: tuple[float, float]
    """Width of the parking lanes left and right, 0 for none."""
    pavement: tuple[float, float]
    town: float
    """Share of building lots that stand right at the pavement."""
    built: float
    """Share of lots with a building."""
    floors: tuple[int, int]
    street_trees: float
    fences: float
    parked: float
    oncoming_gap: float
    people_gap: float
    cyclist_gap: float
    signs: float
    crossings: float
    lamp_gap: int
    centre_line: str
    edge_line: bool
    asphalt: Colour
    paving: str
    paving_colour: Colour
    leaf: tuple[Colour, ...]
    walls: tuple[Colour, ...]
    light: Light
    sun_side: int
    sun_azimuth: float
    cruise: float
    stops: float
    bendiness: float
    camera_height: float
    fov: float
    horizon: float
    pitch: float
    grain: float
    blur: float
    vignette: float

    @property
    def half_road(self) -> tuple[float, float]:
        """Metres from the centre line to the left and the right kerb."""
        return self.lane + self.parking[0], self.lane + self.parking[1]

    @property
    def facade(self) -> tuple[float, float]:
        """Metres from the centre line to the left and right outer edge of the pavement."""
        left, right = self.half_road
        return left + self.pavement[0], right + self.pavement[1]


_WALLS: tuple[tuple[Colour, ...], ...] = (
    ((150, 82, 62), (168, 104, 78), (128, 70, 58), (196, 170, 130)),
    ((206, 190, 160), (222, 208, 184), (188, 160, 128), (214, 178, 138)),
    ((172, 170, 166), (146, 146, 148), (198, 194, 186), (120, 122, 128)),
    ((204, 144, 110), (222, 190, 120), (176, 190, 180), (200, 130, 120)),
    ((226, 222, 214), (210, 206, 200), (166, 92, 72), (180, 172, 156)),
    ((112, 92, 80), (140, 120, 100), (170, 150, 124), (96, 88, 88)),
)
_LEAVES: tuple[tuple[Colour, ...], ...] = (
    ((62, 92, 34), (78, 108, 40), (50, 80, 36)),
    ((84, 116, 48), (70, 104, 40), (104, 124, 52)),
    ((48, 70, 32), (58, 78, 38), (40, 62, 34)),
    ((110, 112, 44), (132, 108, 42), (92, 100, 40)),
    ((92, 112, 56), (74, 96, 50), (88, 122, 60)),
)


def _asphalt(rng: np.random.Generator) -> Colour:
    tone = float(rng.uniform(72, 122))
    return tone, tone * float(rng.uniform(0.97, 1.01)), tone * float(rng.uniform(0.94, 1.06))


def make_style(seed: int) -> Style:
    """Draws every choice for one street."""
    rng = generator(seed, Topic.STYLE)
    u = rng.uniform
    sunny = pick(rng, _LIGHTS)
    town = float(pick(rng, (0.95, 0.75, 0.35, 0.1)))
    low = int(rng.integers(1, 4)) if town < 0.5 else int(rng.integers(2, 5))
    parking_left, parking_right = (float(u(1.9, 2.3)) if rng.random() < 0.65 else 0.0 for _ in range(2))
    return Style(
        drive_side=1 if rng.random() < 0.6 else -1,
        lane=float(u(3.0, 4.3)),
        parking=(parking_left, parking_right),
        pavement=(float(u(1.8, 4.2)), float(u(1.8, 4.2))),
        town=town,
        built=float(u(0.55, 0.95)),
        floors=(low, low + int(rng.integers(1, 4))),
        street_trees=float(pick(rng, (0.1, 0.3, 0.6))),
        fences=float(u(0.3, 0.8)),
        parked=float(u(0.25, 0.8)),
        oncoming_gap=float(u(18, 70)),
        people_gap=float(u(5, 22)),
        cyclist_gap=float(u(14, 45)),
        signs=float(u(0.4, 0.95)),
        crossings=float(u(0.15, 0.4)),
        lamp_gap=int(rng.integers(1, 3)),
        centre_line=pick(rng, ("dash", "dash", "dash", "solid", "double", "yellow")),
        edge_line=bool(rng.random() < 0.6),
        asphalt=_asphalt(rng),
        paving=pick(rng, ("slabs", "slabs", "bricks", "asphalt")),
        paving_colour=pick(
            rng,
            (
                (168, 162, 152),
                (182, 172, 156),
                (152, 150, 150),
                (176, 150, 132),
                (160, 152, 158),
                (190, 184, 172),
            ),
        ),
        leaf=pick(rng, _LEAVES),
        walls=pick(rng, _WALLS),
        light=sunny,
        sun_side=1 if rng.random() < 0.5 else -1,
        sun_azimuth=float(u(0, 2 * np.pi)),
        cruise=float(u(5.0, 11.0)),
        stops=float(u(0.05, 0.25)),
        bendiness=float(u(0.0, 0.07)),
        camera_height=float(u(1.2, 2.1)),
        fov=float(u(52, 74)),
        horizon=float(u(0.40, 0.52)),
        pitch=float(u(-0.02, 0.03)),
        grain=float(u(1.5, 5.0)),
        blur=float(max(0.0, u(-0.5, 0.8))),
        vignette=float(u(0.0, 0.3)),
    )
