"""From a snapshot to what a browser draws: a JPEG, the labels as a PNG, and what is told beside them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import simplejpeg

from tilestream.label_runs import label_map
from tilestream.media.errors import BadFrame
from tilestream.media.jpeg_layout import END, START, read_layout
from tilestream.media.masks import encode_png, resize_labels
from tilestream.messages import BinAccount, FrameStats, ModelInfo, UInt8Array
from tilestream.web.watch import Snapshot

_QUALITY = 85  # of frames that have to be encoded for the page
_EXIF = 0xE1  # the marker of Exif and XMP: orientation, place, camera


@dataclass(frozen=True, slots=True)
class Drawn:
    """``about``: facts for JSON. ``seconds``: of a core, that it took."""

    frame: bytes
    labels: bytes
    about: dict[str, Any]
    seconds: float


def draw(snapshot: Snapshot) -> Drawn:
    """In a media thread: what browsers are sent of a snapshot. Pixels of the PNG are the client's labels."""
    begin = time.thread_time()
    width, height = snapshot.size
    labels = resize_labels(label_map(snapshot.labels), width, height)
    about = {
        "frame_id": snapshot.frame_id,
        "width": width,
        "height": height,
        "areas": _areas(labels, snapshot.model),
        "stats": None if snapshot.stats is None else _stats(snapshot.stats),
        "bins": None if snapshot.bins is None else _bins(snapshot.bins),
    }
    png = encode_png(labels, snapshot.model.palette)
    return Drawn(_photo(snapshot), png, about, time.thread_time() - begin)


def _photo(snapshot: Snapshot) -> bytes:
    """The camera's own JPEG, without what browsers stumble over, what turns it and where it was taken."""
    data = snapshot.frame
    try:
        layout = read_layout(data)
    except BadFrame:
        if snapshot.pixels is None:
            raise
        return simplejpeg.encode_jpeg(np.ascontiguousarray(snapshot.pixels), _QUALITY)
    header = (data[part.begin : part.end] for part in layout.header if part.marker != _EXIF)
    return b"".join((START, *header, data[layout.first_scan.end : layout.end], END))


def _areas(labels: UInt8Array, model: ModelInfo) -> list[dict[str, Any]]:
    """The classes that are there, the largest first."""
    counts = cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()  # exact up to 16 million pixels
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda value: -counts[value])
    return [
        {
            "value": value,
            "name": model.classes[value] if value < len(model.classes) else str(value),
            "color": list(model.palette[value]) if value < len(model.palette) else [0, 0, 0],
            "pixels": int(counts[value]),
            "share": float(counts[value] / labels.size),
        }
        for value in order
    ]


def _stats(stats: FrameStats) -> dict[str, Any]:
    return {
        "whole": stats.whole,
        "units_computed": stats.units_computed,
        "units_total": stats.units_total,
        "block_budget": stats.budget,
        "agreement": stats.agreement,
    }


def _bins(bins: BinAccount) -> dict[str, Any]:
    rows, columns = bins.units_computed.shape
    return {
        "bin_size": bins.bin_size,
        "rows": rows,
        "columns": columns,
        "width": bins.width,
        "height": bins.height,
        "units_per_bin": bins.units_per_bin,
        "units_computed": bins.units_computed.ravel().tolist(),
    }
