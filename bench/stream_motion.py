"""Whether the motion vectors of a video stream move labels as well as an optical flow does, and in what time.

Exact labels of the drawn street are moved for some frames along either motion, chained frame by frame as the
engine does; vectors are those that x264 chose and libav hands out, of P pictures. Key units have none and
stand still; intra blocks take the mean of the blocks around them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.turns import write_result
from tilestream.engine.memory.labels import looked_up
from tilestream.engine.motion.estimators import DisMotion, MotionEstimator, NoMotion
from tilestream.engine.motion.luma import thumbnails
from tilestream.engine.motion.warp import chained
from tilestream_street import SyntheticStreet

SIZE = (480, 360)
SCALE = 2  # image pixels per thumbnail pixel at that size
CELL = 4  # pixels: the smallest block that has a vector
SEEDS = (1000, 1001, 1002, 1003)
AGES = (1, 2, 3, 4, 6)  # frames for which labels are moved
ESTIMATORS: dict[str, MotionEstimator] = {
    "DIS": DisMotion(),
    "DIS, patches 7 apart": DisMotion(patch_stride=7),
    "DIS, stopping at half resolution": DisMotion(finest_scale=1),
    "no motion": NoMotion(),
}
ENCODERS = {
    "camera (veryfast, 1 reference)": ("veryfast", "bframes=0:ref=1:keyint=60"),
    "archive (medium, 3 references)": ("medium", "bframes=0:ref=3:keyint=60"),
}

Float32Array = npt.NDArray[np.float32]


def encoded(images: list[npt.NDArray[np.uint8]], preset: str, params: str, crf: int) -> list[bytes]:
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = *SIZE, "yuv420p"
    context.time_base = Fraction(1, 15)
    context.options = {"preset": preset, "x264-params": f"{params}:crf={crf}"}
    packets = []
    for number, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        frame.pts = number
        packets += context.encode(frame)
    return [bytes(packet) for packet in (*packets, *context.encode(None))]


def decoded(units: list[bytes], export: bool) -> tuple[list[Any], float]:
    """The frames, and seconds each."""
    context = av.CodecContext.create("h264", "r")
    context.thread_count = 1
    context.options = {"flags2": "+export_mvs"} if export else {}
    begin = time.thread_time()
    frames = [frame for unit in units for frame in context.decode(av.Packet(unit))]
    frames += context.decode(None)
    return frames, (time.thread_time() - begin) / len(units)


def flow_of(frame: Any, smooth: bool) -> Float32Array:
    """float32 [h, w, 2] in thumbnail pixels: where every pixel was in the frame before, by the vectors."""
    rows, columns = SIZE[1] // CELL, SIZE[0] // CELL
    flow, known = np.zeros((rows, columns, 2), np.float32), np.zeros((rows, columns), np.float32)
    data = frame.side_data.get("MOTION_VECTORS")
    vectors: Any = data.to_ndarray() if data is not None else ()
    for width, height in {(v["w"], v["h"]) for v in vectors[["w", "h"]]} if len(vectors) else ():
        chosen = vectors[(vectors["w"] == width) & (vectors["h"] == height) & (vectors["source"] < 0)]
        y = (chosen["dst_y"].astype(int) - height // 2) // CELL
        x = (chosen["dst_x"].astype(int) - width // 2) // CELL
        moved = np.stack([chosen["motion_x"], chosen["motion_y"]], 1) / chosen["motion_scale"][:, None]
        for down in range(max(1, height // CELL)):
            for right in range(max(1, width // CELL)):
                at = np.clip(y + down, 0, rows - 1), np.clip(x + right, 0, columns - 1)
                flow[at], known[at] = moved, 1.0
    if known.any() and not known.all():
        near = (
            cv2.blur(flow * known[..., None], (9, 9)) / np.maximum(cv2.blur(known, (9, 9)), 1e-6)[..., None]
        )
        flow = np.where(known[..., None] > 0, flow, near).astype(np.float32)
    if smooth:
        flow = np.stack([cv2.medianBlur(np.ascontiguousarray(flow[..., i]), 5) for i in range(2)], -1)
    size = SIZE[0] // SCALE, SIZE[1] // SCALE
    return np.asarray(cv2.resize(flow / SCALE, size, interpolation=cv2.INTER_LINEAR), np.float32)


def score(flows: list[Tensor], labels: list[npt.NDArray[np.uint8]], fits: dict[int, list[float]]) -> None:
    """Adds, by how long they were moved, the shares of the labels that fit."""
    for begin in range(len(labels) - max(AGES)):
        displacement = None
        for age in range(1, max(AGES) + 1):
            flow = flows[begin + age][None]
            displacement = chained(flow, None if displacement is None else [displacement])[0]
            if age in AGES:
                moved = looked_up([torch.from_numpy(labels[begin])], displacement, SCALE)[0].numpy()
                fits[age].append(float((moved == labels[begin + age]).mean()))


def measure(images: list[Any], labels: list[Any], encoder: tuple[str, str], crf: int, found: Any) -> None:
    units = encoded(images, *encoder, crf)
    plain, seconds_plain = decoded(units, export=False)
    frames, seconds_export = decoded(units, export=True)
    bits = sum(map(len, units)) * 8 * 15 / len(units) / 1e3
    found["kbit_per_second"].append(bits)
    luma = [thumbnails([torch.from_numpy(frame.to_ndarray(format="rgb24"))], SCALE) for frame in plain]
    nothing = torch.zeros((*luma[0].shape, 2))
    for name, estimator in ESTIMATORS.items():
        expected, flows, begin = nothing, [nothing[0]], time.thread_time()
        for before, now in pairwise(luma):
            expected = estimator.estimate(before, now, expected, SCALE).flow
            flows.append(expected[0])
        found["ms", name].append(1e3 * (time.thread_time() - begin) / (len(luma) - 1))
        score(flows, labels, found["fits", name])
    for name, smooth in (("vectors", False), ("vectors, median of 5 x 5 blocks", True)):
        begin = time.thread_time()
        flows = [torch.from_numpy(flow_of(frame, smooth)) for frame in frames]
        spent = (time.thread_time() - begin) / len(frames) + seconds_export - seconds_plain
        found["ms", name].append(1e3 * spent)
        score(flows, labels, found["fits", name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=40, help="frames per street")
    parser.add_argument("--crf", type=int, default=26, help="x264's quality")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)  # the time of one thread is what is measured
    torch.set_num_threads(1)
    body: dict[str, Any] = {"size": SIZE, "streets": SEEDS, "crf": arguments.crf}
    for title, encoder in ENCODERS.items():
        found: dict[Any, Any] = defaultdict(list)
        for name in (*ESTIMATORS, "vectors", "vectors, median of 5 x 5 blocks"):
            found["fits", name] = defaultdict(list)
        for seed in SEEDS:
            street = list(SyntheticStreet(seed, *SIZE, fps=15.0).frames(arguments.frames))
            measure([f.image for f in street], [f.labels for f in street], encoder, arguments.crf, found)
        record: dict[str, Any] = {"kbit_per_second": round(float(np.mean(found["kbit_per_second"])))}
        for (kind, name), values in ((key, value) for key, value in found.items() if isinstance(key, tuple)):
            one = record.setdefault(name, {})
            if kind == "ms":
                one["ms"] = round(float(np.median(values)), 2)
            else:
                one["labels_that_fit"] = {age: round(100 * float(np.mean(values[age])), 2) for age in AGES}
        body[title] = record
        print(title, record)
    command = "python -m bench.stream_motion " + " ".join(sys.argv[1:])
    print(f"wrote {write_result('stream_motion', command.strip(), body)}")


if __name__ == "__main__":
    main()
