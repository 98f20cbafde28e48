"""A labelled drive with stops: some of its frames are held, as before a red light."""

from __future__ import annotations

import re

import numpy as np

from tilestream.messages import UInt8Array
from tilestream_training.datasets.base import Sample, SegmentationDataset

NOISE = 2.0
"""Grey levels, standard deviation of every channel: what a dashcam's sensor and JPEG leave in daylight."""


class WithStops(SegmentationDataset):
    """The frames of ``data`` in order, ``stops`` of them, evenly spread, shown for ``held`` frames more.

    A held frame is seen with fresh noise every time, so its labels are exact. The same noise in every run.
    """

    def __init__(self, data: SegmentationDataset, held: int, stops: int, noise: float = NOISE) -> None:
        """Raises ValueError where there is nothing to hold."""
        if held < 1 or not 1 <= stops < len(data):
            raise ValueError(f"{stops} stops of {held} frames in a clip of {len(data)}")
        self.class_names, self._data, self._noise = data.class_names, data, noise
        places = [round(len(data) * (stop + 1) / (stops + 1)) - 1 for stop in range(stops)]
        self._frames = [
            (index, repeat) for index in range(len(data)) for repeat in range(1 + held * places.count(index))
        ]

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        source, repeat = self._frames[index]
        sample = self._data[source]
        if not repeat:
            return sample
        return Sample(self._noisy(sample.image, index), sample.labels, f"{sample.name}+{repeat}")

    def _noisy(self, image: UInt8Array, seed: int) -> UInt8Array:
        noise = np.random.default_rng(seed).normal(0.0, self._noise, image.shape)
        return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def parse_stops(text: str) -> tuple[int, int]:
    """``20x3``: frames that are held, and how often. Raises ValueError."""
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if not found:
        raise ValueError(f"standstill {text!r}; has to be FRAMESxTIMES, such as 20x3")
    return int(found[1]), int(found[2])
