"""Accuracy against time, as a picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tilestream.messages import UInt8Array
from tilestream.training.stream_evaluation import DenseScore, StreamPoint

_SIZE = (640, 960)  # rows, columns
_BOX = (60, 40, 560, 760)  # top, left + margin for numbers, bottom, right of the axes
_FONT, _BLACK, _GREY = cv2.FONT_HERSHEY_SIMPLEX, (0, 0, 0), (215, 215, 215)
_COLOURS = (  # BGR, told apart without red and green
    (178, 114, 0),
    (0, 94, 213),
    (115, 158, 0),
    (167, 121, 204),
    (0, 159, 230),
    (233, 180, 86),
    (60, 60, 60),
)


def plot_points(path: Path, title: str, dense: DenseScore, points: Sequence[StreamPoint]) -> None:
    """Draw mIoU against milliseconds per frame, a line per method; the dense network is dashed. A PNG.

    Milliseconds are the dense network's, divided by the speed-up that was measured in turns with it: what
    else the machine did while one of the points was measured moves it nowhere.
    """
    times = [dense.ms / point.speedup_vs_dense for point in points]
    canvas = _Canvas([dense.ms, *times], [dense.miou, *(p.miou for p in points)])
    canvas.axes(title)
    canvas.dashed(dense.miou)
    canvas.line([(dense.ms, dense.miou)], _BLACK, "dense")
    methods: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for point, ms in zip(points, times, strict=True):
        methods[point.method].append((point.budget, ms, point.miou))
    for number, (name, found) in enumerate(methods.items()):
        places = [(ms, miou) for _, ms, miou in sorted(found)]
        canvas.line(places, _COLOURS[number % len(_COLOURS)], name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), canvas.picture):
        raise ValueError(f"cannot write a picture to {path}")


class _Canvas:
    """A white picture with axes from 0 ms, and around the values of mIoU."""

    def __init__(self, ms: list[float], miou: list[float]) -> None:
        self.picture: UInt8Array = np.full((*_SIZE, 3), 255, dtype=np.uint8)
        self._step_x, self._step_y = _step(max(ms)), _step(max(miou) - min(miou))
        self._right = self._step_x * np.ceil(max(ms) / self._step_x + 0.1)
        self._low = self._step_y * np.floor(min(miou) / self._step_y - 0.1)
        self._high = self._step_y * np.ceil(max(miou) / self._step_y + 0.1)
        self._entries = 0

    def axes(self, title: str) -> None:
        top, left, bottom, right = _BOX
        left += 40
        for value in np.arange(0, self._right + 1e-9, self._step_x):
            x, _ = self._at(float(value), self._low)
            cv2.line(self.picture, (x, top), (x, bottom), _GREY, 1)
            self._text(f"{value:g}", x - 10, bottom + 22)
        for value in np.arange(self._low, self._high + 1e-9, self._step_y):
            _, y = self._at(0.0, float(value))
            cv2.line(self.picture, (left, y), (right, y), _GREY, 1)
            self._text(f"{value:.3g}", left - 55, y + 5)
        cv2.rectangle(self.picture, (left, top), (right, bottom), _BLACK, 1)
        self._text(title, left, 30)
        self._text("mIoU", left - 55, top - 12)
        self._text("milliseconds per frame", (left + right) // 2 - 90, bottom + 48)

    def dashed(self, miou: float) -> None:
        x, y = self._at(0.0, miou)
        for start in range(x, _BOX[3], 16):
            cv2.line(self.picture, (start, y), (min(start + 8, _BOX[3]), y), _BLACK, 1)

    def line(self, values: list[tuple[float, float]], colour: tuple[int, int, int], name: str) -> None:
        places = [self._at(*value) for value in values]
        cv2.polylines(self.picture, [np.array(places, dtype=np.int32)], False, colour, 2, cv2.LINE_AA)
        row = _BOX[0] + 20 + 28 * self._entries
        for x, y in [*places, (_BOX[3] + 20, row - 5)]:
            cv2.circle(self.picture, (x, y), 5, colour, -1, cv2.LINE_AA)
        self._text(name, _BOX[3] + 34, row)
        self._entries += 1

    def _at(self, ms: float, miou: float) -> tuple[int, int]:
        top, left, bottom, right = _BOX
        left += 40
        height = (miou - self._low) / (self._high - self._low)
        return round(left + ms / self._right * (right - left)), round(bottom - height * (bottom - top))

    def _text(self, text: str, x: int, y: int) -> None:
        cv2.putText(self.picture, text, (x, y), _FONT, 0.5, _BLACK, 1, cv2.LINE_AA)


def _step(span: float) -> float:
    """A round number, so that a span has 4 to 10 of them."""
    span = max(span, 1e-6)
    power = 10.0 ** np.floor(np.log10(span / 4))
    return float(max(factor * power for factor in (1, 2, 5) if factor * power <= span / 4))
