"""What a mask costs to encode: every format, from a label map and from runs of labels, at two sizes.

The masks are the exact labels of the drawn street or, with ``--data``, what the network says of a folder's
pictures. Each contender encodes them all in turns with the others, on one thread, whose CPU time counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from bench.turns import machine
from tilestream.engine.dense.executor import DenseExecutor
from tilestream.label_runs import LabelRuns
from tilestream.media.masks import MaskFormat, Palette, encode_mask
from tilestream.messages import UInt8Array
from tilestream.models import load_model
from tilestream_street import SyntheticStreet

SIZES = ((480, 360), (1280, 720))
MODEL = "swiftnet_resnet18"
MASKS, SEED, APART = 8, 1000, 15  # drawn frames that are a second apart
PALETTE: Palette = [(20 * label, 255 - 20 * label, 7 * label) for label in range(11)]


def drawn(width: int, height: int) -> list[UInt8Array]:
    """Exact labels of a street."""
    street = SyntheticStreet(SEED, width, height)
    return [street.frame(APART * index).labels for index in range(MASKS)]


def predicted(folder: Path, width: int, height: int) -> list[UInt8Array]:
    """Labels of pictures from all over a folder, stretched to the size."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".jpeg", ".png"))
    network = DenseExecutor(load_model(MODEL), torch.device("cpu"), torch.float32)
    masks = []
    for path in paths[:: max(1, len(paths) // MASKS)][:MASKS]:
        picture = cv2.imread(str(path))
        if picture is None:
            raise SystemExit(f"{path}: not a picture")
        resized = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), (width, height))
        masks.append(network.labels(np.asarray(resized, dtype=np.uint8)).copy())
    return masks


def measure(masks: list[UInt8Array], rounds: int) -> list[dict[str, Any]]:
    """A record per format and form; ms and bytes are per mask."""
    forms: dict[str, Sequence[UInt8Array | LabelRuns]] = {
        "map": masks,
        "runs": [LabelRuns.of(labels) for labels in masks],
    }
    contenders = list(product(MaskFormat, forms))
    milliseconds: dict[tuple[MaskFormat, str], list[float]] = {contender: [] for contender in contenders}
    sizes: dict[tuple[MaskFormat, str], float] = {}
    for _ in range(rounds):
        for mask_format, form in contenders:
            started = time.thread_time()
            encoded = [encode_mask(labels, mask_format, PALETTE) for labels in forms[form]]
            seconds = time.thread_time() - started
            milliseconds[mask_format, form].append(1e3 * seconds / len(masks))
            sizes[mask_format, form] = statistics.mean(map(len, encoded))
    return [
        {
            "format": mask_format.name,
            "from": form,
            "ms": round(statistics.median(milliseconds[mask_format, form]), 3),
            "bytes": round(sizes[mask_format, form]),
        }
        for mask_format, form in contenders
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder of pictures; by default the street is drawn")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path, help="where the figures go, too")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    rows = []
    for width, height in SIZES:
        masks = drawn(width, height) if arguments.data is None else predicted(arguments.data, width, height)
        runs = round(statistics.mean(len(LabelRuns.of(labels).values) for labels in masks))
        print(f"{width}x{height}, {len(masks)} masks of {runs} runs")
        for record in measure(masks, arguments.rounds):
            print("  {format:4} of {from:5} {ms:7.3f} ms {bytes:8} bytes".format(**record))
            rows.append({"width": width, "height": height, "runs": runs, **record})
    if arguments.json:
        command = " ".join(["python -m bench.mask_encoding", *sys.argv[1:]])
        body = {"command": command, "date": time.strftime("%Y-%m-%d"), "machine": machine(), "masks": rows}
        arguments.json.write_text(json.dumps(body, indent=2) + "\n")


if __name__ == "__main__":
    main()
