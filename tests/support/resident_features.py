"""Sessions whose features live in slots, beside an engine that keeps them on the host, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from support.frames import photo
from support.reuse_engines import CPU, Ask, kept_maps, make_engine, network, run, worst_difference
from tilestream.engine.lowering.program import TileProgram
from tilestream.engine.motion.flow import Motion
from tilestream.engine.resident.partial.features import ComputedTiles, ResidentFeatures
from tilestream.engine.resident.partial.kernels import RowKernels
from tilestream.engine.resident.partial.shared import ResidentProgram

ROOM = 256 << 20


class GivenMotion:
    """A motion estimator that is told what moved. ``flows``: float32 [h, w, 2] of each frame of a step."""

    def __init__(self) -> None:
        self.flows: Tensor = torch.zeros(0)
        self.scale = 1

    def estimate(self, previous, current, expected, scale) -> Motion:
        assert self.flows.shape == (*current.shape, 2)
        self.scale = scale
        return Motion(self.flows, torch.zeros(current.shape, dtype=torch.bool), scale)


def resident(
    program: TileProgram,
    name: str,
    kernels: RowKernels | None = None,
    max_bytes: int = ROOM,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
) -> ResidentProgram:
    """What slots of all sizes share, for one of the tests' networks."""
    module = network(name)
    return ResidentProgram(program, module.mean, module.std, max_bytes, device, dtype, kernels)


def slot_maps(features: ResidentFeatures, slot: int) -> dict[str, np.ndarray]:
    """The maps that a slot has now, float [C, H, W]: what its references refer to."""
    found = {}
    for node in features.shared.program.kept:
        rows = features._references[node.stride].rows[slot, 1:-1, 1:-1]
        values = features.shared.pages.maps[node.name].index_select(0, rows.reshape(-1))
        found[node.name] = values.view(*rows.shape, -1).permute(2, 0, 1).float().cpu().numpy()
    return found


def stacked_pixels(images: Sequence[np.ndarray]) -> Tensor:
    """uint8 [N, 3, H, W]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def random_keep(
    random: np.random.Generator, frames: int, units: int, bins: tuple[int, int], share: float, by_unit: bool
) -> np.ndarray:
    """bool [frames, units, *bins], something of every frame."""
    keep = np.zeros((frames, units, *bins), dtype=np.bool_)
    keep[...] = random.random((frames, units if by_unit else 1, *bins)) < share
    keep[~keep.any(axis=(1, 2, 3))] = True
    return keep


def random_flow(random: np.random.Generator, shape: tuple[int, ...], speed: float) -> Tensor:
    """In quarters of a pixel: the means of such numbers are exact, whoever reckons them."""
    return torch.from_numpy((random.normal(0, 4 * speed, shape).round() / 4).astype(np.float32))


class SideBySide:
    """The same frames through an engine of the host and through slots."""

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        sessions: int,
        seed: int,
        kernels: RowKernels | None = None,
        pages_per_tile: float = 2.0,
    ) -> None:
        self.random, self.size, self.seed = np.random.default_rng(seed), size, seed
        self._motion, self._seen = GivenMotion(), 0
        self.engine = make_engine(name, motion=self._motion, store_bytes=ROOM)
        self.features = ResidentFeatures(
            resident(self.engine.program, name, kernels), size, sessions + 2, pages_per_tile
        )
        self.slots = [int(slot) for slot in self.random.permutation(sessions + 2)[:sessions]]
        images = self._images()
        run(self.engine, [Ask(str(slot), image, whole=True) for slot, image in self._each(images)])
        kept, _ = self.engine.dense.scores([torch.from_numpy(image) for image in images])
        assert self.features.start(self.slots, kept) == []

    def step(self, share: float, by_unit: bool = False, speed: float = 0.0) -> None:
        """One frame of each; the same of them is computed, and what is kept is the same afterwards."""
        images, units = self._images(), len(self.engine.program.units)
        shape = (len(self.slots), *self.size, 2)
        self._motion.flows = random_flow(self.random, shape, speed)
        keep = random_keep(self.random, len(self.slots), units, self.features.bins, share, by_unit)
        asked = [
            Ask(str(slot), image, keep=mask)
            for (slot, image), mask in zip(self._each(images), keep, strict=True)
        ]
        expected = [outcome.labels for outcome in run(self.engine, asked)]
        self.features.move(self.slots, self._motion.flows, self._motion.scale)
        plan = self.features.plan(self.slots, keep)
        assert not plan.refused
        self.computed = self.features.run(plan, stacked_pixels(images))
        check_labels(self.computed, expected)

    def worst_difference(self) -> float:
        """Of the maps that both keep now, relative to the largest value of each."""
        return max(
            worst_difference(slot_maps(self.features, slot), kept_maps(self.engine, str(slot)))
            for slot in self.slots
        )

    def _images(self) -> list[np.ndarray]:
        height, width = self.size
        self._seen += 1
        return [photo(width, height, 1000 * self.seed + 100 * self._seen + slot) for slot in self.slots]

    def _each(self, images: list[np.ndarray]) -> list[tuple[int, np.ndarray]]:
        return list(zip(self.slots, images, strict=True))


def check_labels(computed: ComputedTiles, expected: Sequence[np.ndarray]) -> None:
    """The labels of all tiles are those of the frames, uint8 [H, W] each, at their places.

    But for a pixel here and there, where two classes are the best but for rounding.
    """
    tiles, wrong, pixels = computed.tiles.host, 0, 0
    assert len(computed.labels) == tiles.count
    found = computed.labels.cpu().numpy()
    for labels, frame, y, x in zip(found, tiles.session, tiles.y, tiles.x, strict=True):
        side = len(labels)
        part = expected[frame][y * side : (y + 1) * side, x * side : (x + 1) * side]
        wrong += np.count_nonzero(labels[: part.shape[0], : part.shape[1]] != part)
        pixels += part.size
    assert wrong <= 2 + pixels / 1000
