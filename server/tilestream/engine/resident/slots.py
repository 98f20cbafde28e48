"""What the engine remembers of its sessions, in tables on the device: a session is a row, its slot.

Memory is bounded: where a table may not grow, the session that was used longest ago gives up its slot, and
its next frame is a whole one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from tilestream.engine.memory.usage import MemoryUsage
from tilestream.engine.resident.partial.features import ResidentFeatures

Size = tuple[int, int]
_FIRST_ROWS = 8


@dataclass(frozen=True, slots=True)
class SlotLayout:
    """Shapes of what is kept of a session.

    ``size``: H, W of its frames; ``thumbnail``: h, w of their luma; ``cells``: rows and columns of the
    distortion. ``scores``: C, h, w of a whole frame's class scores, which are ``dtype``; C is 0 where they
    are not kept. ``reference_bytes``: what is kept beside, where features are reused, to know where they lie.
    """

    size: Size
    thumbnail: Size
    cells: Size
    scores: tuple[int, int, int]
    dtype: torch.dtype
    reference_bytes: int = 0

    def columns(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Shape and dtype of a row of each of the table's tensors."""
        return {
            "labels": (self.size, torch.uint8),
            "luma": (self.thumbnail, torch.uint8),
            "flow": ((2, *self.thumbnail), torch.float32),
            "displacement": ((2, *self.thumbnail), torch.float32),
            "distortion": ((2, *self.cells), torch.float32),
            "scores": (self.scores, self.dtype),
            "score_luma": (self.thumbnail, torch.uint8),
        }

    @property
    def row_bytes(self) -> int:
        """Of one session, confidence included, which not all of them have."""
        kept = sum(prod(shape) * dtype.itemsize for shape, dtype in self.columns().values())
        return kept + prod(self.size) + self.reference_bytes


class SlotTable:
    """State of the sessions whose frames have one size; tensors [1 + rows, ...], of every session one row.

    Row 0 is nobody's: batches that are filled up to a size write there.

    ``labels``: uint8 [H, W], the answer to its latest whole frame, and ``confidence`` likewise, made when the
    first session asks for it. ``displacement``: float32 [2, h, w] (x, y), from the latest frame to that one,
    in thumbnail pixels. ``luma``: uint8 [h, w], what the next frame is compared with; ``flow``: float32
    [2, h, w], where its motion is searched for first. ``distortion``: float32 [2, h', w'], distortion and
    age. ``scores``: [C, h'', w''] of the latest whole frame, each pixel's best class at 0, and
    ``score_luma``: uint8 [h, w], what that frame looked like.
    """

    labels: Tensor
    luma: Tensor
    flow: Tensor
    displacement: Tensor
    distortion: Tensor
    scores: Tensor
    score_luma: Tensor

    def __init__(
        self, layout: SlotLayout, device: torch.device, features: ResidentFeatures | None = None
    ) -> None:
        """``features``: of the rows' sessions, of one slot: nobody's. They live as long as the rows."""
        self.layout, self._device, self.features = layout, device, features
        self.rows = 0
        self._free: list[int] = []
        self.confidence: Tensor | None = None
        for name, (shape, dtype) in layout.columns().items():
            setattr(self, name, torch.zeros((1, *shape), dtype=dtype, device=device))

    @property
    def in_use(self) -> int:
        """Rows that are some session's."""
        return self.rows - len(self._free)

    def grow(self, rows: int) -> None:
        """Have so many rows more. What is there stays as it is, if the memory does not suffice."""
        grown = {}
        for name, (shape, dtype) in self.layout.columns().items():
            more = torch.zeros((rows, *shape), dtype=dtype, device=self._device)
            grown[name] = torch.cat((getattr(self, name), more))
        confidence = self.confidence
        if confidence is not None:
            more = torch.zeros((rows, *self.layout.size), dtype=torch.uint8, device=self._device)
            confidence = torch.cat((confidence, more))
        if self.features is not None:
            self.features.grow(rows)
        for name, tensor in grown.items():
            setattr(self, name, tensor)
        self.confidence = confidence
        self._free += range(self.rows + rows, self.rows, -1)
        self.rows += rows

    def keep_confidence(self) -> Tensor:
        """The confidence of all rows, uint8 [1 + rows, H, W]."""
        if self.confidence is None:
            self.confidence = torch.zeros_like(self.labels)
        return self.confidence

    def take(self) -> int | None:
        """A row that nobody has; None if there is none."""
        return self._free.pop() if self._free else None

    def give_back(self, row: int) -> None:
        """Nobody has this row any more."""
        if self.features is not None:
            self.features.release(row)
        self._free.append(row)


class Slots:
    """Tables for all frame sizes within ``max_bytes``. ``layout``: of a size. ``features``: makes a table's.

    ``evict(session_id)``: called where a session has to give way; has to call :meth:`release`.
    """

    def __init__(
        self,
        layout: Callable[[Size], SlotLayout],
        device: torch.device,
        max_bytes: int,
        evict: Callable[[str], None],
        features: Callable[[Size], ResidentFeatures] | None = None,
    ) -> None:
        self._layout, self._device, self._evict = layout, device, evict
        self.max_bytes, self._features = max_bytes, features
        self._tables: dict[Size, SlotTable] = {}
        self._held: OrderedDict[str, tuple[SlotTable, int]] = OrderedDict()  # by last use, the oldest first
        self.evictions = 0  # to make room for others

    def usage(self) -> MemoryUsage:
        """Of the slots that sessions have, and those that there are."""
        tables = self._tables.values()
        return MemoryUsage(
            bytes=sum(table.in_use * table.layout.row_bytes for table in tables),
            limit_bytes=self.max_bytes,
            pages=sum(table.in_use for table in tables),
            limit_pages=sum(table.rows for table in tables),
            evictions=self.evictions,
        )

    def table(self, size: Size) -> SlotTable | None:
        """The table of that frame size, if any session has a slot in it."""
        return self._tables.get(size)

    def acquire(self, session_id: str, size: Size, busy: set[str]) -> int | None:
        """The session's row of its size's table, a new one if it has none.

        None: there is none to be had but from ``busy`` sessions.
        """
        if session_id in self._held:
            self._held.move_to_end(session_id)
            return self._held[session_id][1]
        table = self._tables.get(size)
        if table is None:
            layout = self._layout(size)
            if 2 * layout.row_bytes > self.max_bytes:  # nobody's row and this one: nobody has to give way
                return None
            table = SlotTable(layout, self._device, self._features(size) if self._features else None)
        row = table.take()
        while row is None:
            if not self._grow(table) and not self._make_room(table, busy):
                return None
            row = table.take()
        self._tables[size] = table  # its last session may just have given way
        self._held[session_id] = table, row
        return row

    def release(self, session_id: str) -> None:
        """A session needs its slot no more. Idempotent."""
        table, row = self._held.pop(session_id, (None, 0))
        if table is None:
            return
        table.give_back(row)
        if not table.in_use:
            self._tables.pop(table.layout.size, None)

    def _grow(self, table: SlotTable) -> bool:
        tables = {*self._tables.values(), table}
        taken = sum((1 + each.rows) * each.layout.row_bytes for each in tables)
        room = (self.max_bytes - taken) // table.layout.row_bytes
        rows = min(max(_FIRST_ROWS, table.rows), room)
        if rows > 0:
            table.grow(rows)
        return rows > 0

    def _make_room(self, table: SlotTable, busy: set[str]) -> bool:
        """Evict the session of this table that was used longest ago, or else all of an idle table."""
        idle = [name for name, (its, _) in self._held.items() if its is table and name not in busy]
        if not idle:
            working = {id(its) for name, (its, _) in self._held.items() if name in busy} | {id(table)}
            other = next((its for its, _ in self._held.values() if id(its) not in working), None)
            idle = [name for name, (its, _) in self._held.items() if its is other]
        else:
            idle = idle[:1]
        for name in idle:
            self._evict(name)
            self.evictions += 1
        return bool(idle)
