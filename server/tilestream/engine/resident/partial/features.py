"""Kept features of sessions that live in slots, and the partial pass over all of them at once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

from tilestream.engine.arrays import Mask
from tilestream.engine.device import upload
from tilestream.engine.resident.partial.kernels import Target
from tilestream.engine.resident.partial.pages import PageNumbers
from tilestream.engine.resident.partial.plan import ComputedTiles, Plan, Slots
from tilestream.engine.resident.partial.reference_maps import references_of
from tilestream.engine.resident.partial.references import References, on_grid
from tilestream.engine.resident.partial.shared import ResidentProgram
from tilestream.engine.resident.partial.step import begin_step
from tilestream.engine.resident.partial.step_graphs import StepGraphs
from tilestream.engine.resident.partial.tile_sets import PackedTiles, StepTiles, pack_tiles
from tilestream.engine.resident.partial.workspace import ResidentStep

PAGES_PER_TILE = 2.0
"""When a slot has more pages than this per tile, its features are copied together."""


class ResidentFeatures:
    """Features of ``slots`` sessions whose frames are ``size`` (height, width).

    A slot has features from ``start`` on until it is released or has to give way to others, which ``has``
    tells. A frame then goes through ``move``, ``plan`` and ``run``; a plan is run before anything else asks
    for room. No method waits for the device. ``graphs``: layouts of steps that are captured as CUDA graphs,
    which takes a wait each; 0: none.
    """

    def __init__(
        self,
        shared: ResidentProgram,
        size: tuple[int, int],
        slots: int,
        pages_per_tile: float = PAGES_PER_TILE,
        graphs: int = 0,
    ) -> None:
        self.shared, self.size, self.slots = shared, size, slots
        self._program, self._pages_per_tile = shared.program, pages_per_tile
        self._number = shared.number()
        self.bins = self._program.bins(*size)
        self._padded = self._program.padded(*size)
        self._references: dict[int, References] = {}
        self._most_graphs = graphs
        self._graphs = self._no_graphs()

    @property
    def tiles(self) -> int:
        """Tiles of every map of a slot."""
        return self.bins[0] * self.bins[1]

    def has(self, slot: int) -> bool:
        """Whether a slot has features that a partial frame could reuse."""
        return (self._number, slot) in self.shared.by_last_use

    def release(self, slot: int) -> None:
        """Forget a slot's features. Idempotent."""
        self.shared.release((self._number, slot))

    def enter(self, slot: int) -> None:
        """A slot's next frame has come: it does not have to give way while ``shared.busy`` has it."""
        owner = (self._number, slot)
        self.shared.busy.add(owner)
        if self.has(slot):
            self.shared.touch(owner)

    @torch.inference_mode()
    def grow(self, slots: int) -> None:
        """Have so many slots more. What is there stays as it is, if the memory does not suffice."""
        grown = {stride: each.grown(slots) for stride, each in self._references.items()}
        self._references.update(grown)
        self.slots += slots
        self._graphs = self._no_graphs()  # they know the references that were

    @torch.inference_mode()
    def start(self, slots: Sequence[int], kept: dict[str, Tensor]) -> list[int]:
        """The kept maps [K, C, h, w] of whole frames become the features of K slots.

        Returns the slots for which there is no room; they have no features now.
        """
        self.shared.pages.take_memory()
        self._make_references()
        busy, refused = self._owners(slots), []
        pages = np.zeros((len(slots), *self.bins), dtype=np.int32)
        for slot in slots:
            self.release(slot)
        for index, slot in enumerate(slots):
            own = self.shared.take((self._number, slot), self.tiles, busy)
            if own is None:
                refused.append(slot)
            else:
                self.shared.touch((self._number, slot))
                pages[index] = own.reshape(self.bins)
        chosen = np.array([slot not in refused for slot in slots], dtype=np.bool_)
        if chosen.any():
            self._write_whole(slots, chosen, pages, kept)
        return refused

    @torch.inference_mode()
    def move(self, slots: Sequence[int], flow: Tensor, scale: int) -> None:
        """References of N slots follow a motion: float32 [N, h, w, 2], (x, y) in thumbnail pixels, as in
        ``Motion.flow``. ``scale``: image pixels per thumbnail pixel.
        """
        if not self._references:
            return
        index = self._uploaded(slots)
        for stride, references in self._references.items():
            displacement = on_grid(flow, scale, stride, references.height, references.width)
            references.move(index, displacement)

    def plan(self, slots: Sequence[int], keep: Mask) -> Plan:
        """Take pages for what will be computed of the slots' next frames.

        ``keep``: bool [N, units, bins_h, bins_w], what the gate decided. The slots have to have features.
        """
        lost = [slot for slot in slots if not self.has(slot)]
        if lost:
            raise ValueError(f"slots {lost} have no features: their frames have to be computed in full")
        keep, busy, refused = keep.copy(), self._owners(slots), []
        pages = np.zeros((len(slots), *self.bins), dtype=np.int32)
        touched = _touched(keep)
        counts = np.count_nonzero(touched, axis=(1, 2)).tolist()
        for index, (slot, count) in enumerate(zip(slots, counts, strict=True)):
            self.shared.touch((self._number, slot))
            own = self.shared.take((self._number, slot), count, busy)
            if own is None:
                keep[index] = False
                refused.append(index)
            else:
                pages[index][touched[index]] = own
        return Plan(np.array(slots, dtype=np.int64), keep, pages, refused)

    @torch.inference_mode()
    def run(self, plan: Plan, pixels: Tensor, want_confidence: bool = False) -> ComputedTiles:
        """Compute what is kept. ``pixels``: uint8 [N, 3, H, W] on the device, of all frames of the plan."""
        packed = self._packed(plan)
        if self._graphs is not None and not want_confidence:
            tiles, planes = self._graphs.run(packed, pixels)
        else:
            tiles = self._unpacked(packed)
            planes = self._compute(tiles, pixels, want_confidence)
        self.finish(plan)
        last = tiles.computed[-1]
        labels, *confidence = (plane[: last.count] for plane in planes)
        return ComputedTiles(last, labels, confidence[0] if want_confidence else None)

    @torch.inference_mode()
    def begin(self, plan: Plan, pixels: Tensor) -> tuple[ResidentStep, StepTiles]:
        """The first part of ``run``: what is computed refers to its new pages; next, stages are run."""
        tiles = self._listed(plan)
        return self._begin(tiles, pixels), tiles

    @torch.inference_mode()
    def finish(self, plan: Plan) -> None:
        """The last part of ``run``: pages that nothing refers to any more are free, as far as is known."""
        for slot in plan.slots[np.all(_touched(plan.keep), axis=(1, 2))].tolist():
            self.shared.pages.ledger.keep_latest((self._number, slot))
        self._copy_together(plan.slots)

    @torch.inference_mode()
    def warm(self, frames: int) -> None:
        """Have everything compiled that moving and computing so many frames takes, or a single tile.

        It is done to the slot and the page that are nobody's. Kernels are compiled when they are first run,
        which takes seconds; those for few tiles and for many may differ.
        """
        shared, (height, width) = self.shared, self.size
        shared.pages.take_memory()
        self._make_references()
        nobody = np.full(frames, self.slots, dtype=np.int64)
        self.move(nobody.tolist(), torch.zeros(frames, height, width, 2, device=shared.device), 1)
        keep = np.ones((frames, len(self._program.units), *self.bins), dtype=np.bool_)
        pages = np.full((frames, *self.bins), shared.pages.spare, dtype=np.int32)
        pixels = torch.zeros(frames, 3, height, width, dtype=torch.uint8, device=shared.device)
        for several in (frames * self.tiles, 1):
            keep &= (np.arange(frames * self.tiles) < several).reshape(frames, 1, *self.bins)
            step, tiles = self.begin(Plan(nobody, keep, pages, []), pixels)
            shared.executor.run(step, tiles, False)
        for node in self._program.kept:
            step.begin(tiles.touched)
            own = step.target(node)
            shared.kernels.copy(own.rows, own.index, own)

    def _copy_together(self, slots: Slots) -> None:
        """Copy the features of slots whose references are spread thin into as few pages as they need.

        Not now those for which there are no such pages. Old ones are free when all is copied, and not before:
        another slot's would be written while they are read.
        """
        ledger = self.shared.pages.ledger
        pages: dict[int, PageNumbers] = {}
        for slot in slots.tolist():
            owner = (self._number, slot)
            if ledger.held(owner) > self._pages_per_tile * self.tiles:
                own = ledger.take(owner, self.tiles)
                if own is not None:
                    pages[slot] = own.reshape(self.bins)
        if pages:
            self._copy_into(pages)
        for slot in pages:
            ledger.keep_latest((self._number, slot))

    def _copy_into(self, pages: dict[int, PageNumbers]) -> None:
        several = list(pages)
        index = self._uploaded(several)
        old = {stride: each.inner(index) for stride, each in self._references.items()}
        left = {stride: each.remainder.index_select(0, index) for stride, each in self._references.items()}
        self._place_whole(np.array(several, dtype=np.int64), np.stack(list(pages.values())))
        for stride, references in self._references.items():
            references.remainder.index_copy_(0, index, left[stride])
            new = references.inner(index).view(-1)
            for node in self._program.kept:
                if node.stride == stride:
                    rows = self.shared.pages.maps[node.name]
                    self.shared.kernels.copy(rows, old[stride].view(-1), Target(rows, new))

    def _write_whole(
        self, slots: Sequence[int], chosen: Mask, pages: PageNumbers, kept: dict[str, Tensor]
    ) -> None:
        own = np.array(slots, dtype=np.int64)[chosen]
        self._place_whole(own, pages[chosen])
        index = self._uploaded(own.tolist())
        rows = {stride: each.inner(index).view(-1) for stride, each in self._references.items()}
        picked = None if chosen.all() else self._uploaded(np.flatnonzero(chosen).tolist())
        for node in self._program.kept:
            maps = kept[node.name] if picked is None else kept[node.name].index_select(0, picked)
            source = maps.permute(0, 2, 3, 1).reshape(-1, node.channels).to(self.shared.dtype)
            target = Target(self.shared.pages.maps[node.name], rows[node.stride])
            self.shared.kernels.copy(source, None, target)

    def _place_whole(self, slots: Slots, pages: PageNumbers) -> None:
        """All tiles of slots refer to these pages, int32 [N, bins_h, bins_w]."""
        keep = np.ones((len(slots), len(self._program.units), *self.bins), dtype=np.bool_)
        tiles = self._listed(Plan(slots, keep, pages, []))
        for references in self._references.values():
            references.place(tiles.touched)

    def _packed(self, plan: Plan) -> PackedTiles:
        nobody = (self.slots, self.shared.pages.spare)
        return pack_tiles(self._program, plan.keep, plan.slots, plan.pages, nobody)

    def _unpacked(self, packed: PackedTiles) -> StepTiles:
        return packed.unpacked(upload(packed.numbers, self.shared.device))

    def _listed(self, plan: Plan) -> StepTiles:
        return self._unpacked(self._packed(plan))

    def _begin(self, tiles: StepTiles, pixels: Tensor) -> ResidentStep:
        return begin_step(self.shared, self._references, self._padded, tiles, pixels)

    def _compute(self, tiles: StepTiles, pixels: Tensor, want_confidence: bool = False) -> list[Tensor]:
        return self.shared.executor.run(self._begin(tiles, pixels), tiles, want_confidence)

    def _make_references(self) -> None:
        """Only when the first features come: what stands by takes no memory."""
        if not self._references:
            self._references.update(references_of(self.shared, self._padded, self.slots))

    def _no_graphs(self) -> StepGraphs | None:
        most = self._most_graphs
        return StepGraphs(self._compute, self.shared.device, most) if most else None

    def _owners(self, slots: Sequence[int]) -> set[Hashable]:
        return {(self._number, slot) for slot in slots}

    def _uploaded(self, numbers: Sequence[int]) -> Tensor:
        return upload(np.array(numbers, dtype=np.int64), self.shared.device)


def _touched(keep: Mask) -> Mask:
    """The bins [N, bins_h, bins_w] in which any unit is kept."""
    return np.asarray(keep.any(axis=1))
