"""What areas, instances, polygons, run lengths and regions cost per mask, from runs of labels, and bytes.

The masks are those of ``bench.mask_encoding``. Beside them is what OpenCV takes for the same instances of a
label map, and noise, which runs into the limits. Contenders take turns on one thread, whose CPU time counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.mask_encoding import SIZES, drawn, predicted
from bench.turns import machine
from tilestream.label_runs import LabelRuns
from tilestream.messages import UInt8Array
from tilestream.results.compute import ResultMaker
from tilestream.results.wishes import Outputs, Region, Rule, Wishes

REGIONS = tuple(
    Region(f"lane {lane}", ((lane / 4, 1.0), (0.45, 0.5), (0.55, 0.5), ((lane + 1) / 4, 1.0)))
    for lane in range(4)
)
WISHES = {
    "areas": Wishes(Outputs(areas=True)),
    "areas with COCO RLE": Wishes(Outputs(areas=True, coco_rle=True)),
    "instances": Wishes(Outputs(instances=True)),
    "instances with polygons": Wishes(Outputs(instances=True, polygons=True)),
    "instances with COCO RLE": Wishes(Outputs(instances=True, coco_rle=True)),
    "4 regions and 4 rules": Wishes(
        regions=REGIONS, rules=tuple(Rule(each.name, (9, 10), each.name, 0.01) for each in REGIONS)
    ),
    "all of it": Wishes(Outputs(areas=True, instances=True, polygons=True, coco_rle=True), regions=REGIONS),
}


def opencv_instances(labels: UInt8Array) -> int:
    """Connected components of every class: what OpenCV has for it."""
    count = 0
    for value in np.flatnonzero(np.bincount(labels.ravel())):
        mask = (labels == value).view(np.uint8)
        stats = cv2.connectedComponentsWithStats(mask, connectivity=8)[2]
        count += int((stats[1:, cv2.CC_STAT_AREA] >= 64).sum())
    return count


def measure(masks: Sequence[UInt8Array], rounds: int) -> list[dict[str, Any]]:
    """A record per wish; ms are medians of rounds, per mask."""
    runs = [LabelRuns.of(labels) for labels in masks]
    sizes: dict[str, float] = {}

    def find(wishes: Wishes) -> Callable[[], float]:
        maker = ResultMaker(wishes)
        return lambda: statistics.mean(maker.find(each).encoded_bytes for each in runs)

    contenders: dict[str, Callable[[], float]] = {name: find(wishes) for name, wishes in WISHES.items()}
    contenders["runs of a map"] = lambda: float(sum(len(LabelRuns.of(each).starts) for each in masks) > 0)
    contenders["OpenCV's components of a map"] = lambda: float(sum(map(opencv_instances, masks)) > 0)
    milliseconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            started = time.thread_time()
            sizes[name] = work()
            milliseconds[name].append(1e3 * (time.thread_time() - started) / len(masks))
    return [
        {"what": name, "ms": round(statistics.median(times), 3), "bytes": round(sizes[name])}
        for name, times in milliseconds.items()
    ]


def noise(width: int, height: int) -> list[UInt8Array]:
    """Pixels of any class, and squares of 3 x 3 of them."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 11, (-(-height // 3), -(-width // 3))).astype(np.uint8)
    squares = coarse.repeat(3, 0).repeat(3, 1)[:height, :width]
    return [random.integers(0, 11, (height, width)).astype(np.uint8), np.ascontiguousarray(squares)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder of pictures; by default the street is drawn")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="where the figures go, too")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    rows = []
    for width, height in SIZES:
        masks = drawn(width, height) if arguments.data is None else predicted(arguments.data, width, height)
        for name, group in (("street", masks), *((("noise", [each])) for each in noise(width, height))):
            runs = round(statistics.mean(len(LabelRuns.of(labels).values) for labels in group))
            print(f"{name} {width}x{height}, {len(group)} masks of {runs} runs")
            for record in measure(group, arguments.rounds):
                print("  {what:30} {ms:8.3f} ms {bytes:8} bytes".format(**record))
                rows.append({"masks": name, "width": width, "height": height, "runs": runs, **record})
    if arguments.json:
        command = " ".join(["python -m bench.results_cost", *sys.argv[1:]])
        body = {"command": command, "date": time.strftime("%Y-%m-%d"), "machine": machine(), "costs": rows}
        arguments.json.write_text(json.dumps(body, indent=2) + "\n")


if __name__ == "__main__":
    main()
