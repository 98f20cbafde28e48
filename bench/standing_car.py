"""A standing car: one picture, again and again, with the noise of sensor and JPEG.

The learned gate, and the network computing every frame in full, take turns frame by frame. Besides how many
pixels are labelled as the network labels that very frame, the result tells how many the network itself labels
as it labelled the first frame (noise alone changes the rest), and how both fit the true labels. Speeds are of
the median frame and of all frames together, those that were computed in full included.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench.turns import write_result
from tilestream.engine import StreamingSegmenter
from tilestream.engine.dense.executor import DenseExecutor
from tilestream.engine.precision import choose_precision
from tilestream.messages import UInt8Array
from tilestream.models import list_models, load_model
from tilestream_street import SyntheticStreet
from tilestream_training.augment import with_noise_and_jpeg
from tilestream_training.datasets.base import Sample
from tilestream_training.datasets.camvid import CamVid
from tilestream_training.metrics import ConfusionMatrix

SIZE = (480, 360)
SIGMA, QUALITY = 2.0, 90  # luma steps of the sensor's noise; of the JPEG
WARM_UP = 3  # frames beforehand


def scene(data: Path | None, place: float) -> Sample:
    """A frame of the synthetic street, or that of CamVid's ``test`` which lies so far into it, 0..1."""
    if data is None:
        frame = SyntheticStreet(5, *SIZE).frame(int(100 * place))
        return Sample(frame.image, frame.labels, "street")
    stills = CamVid(data, "test")
    return stills[int(place * (len(stills) - 1))]


def standing(picture: UInt8Array, frames: int) -> list[UInt8Array]:
    """What a camera sends of it, decoded."""
    random = np.random.default_rng(0)
    return [with_noise_and_jpeg(picture, SIGMA, QUALITY, random) for _ in range(frames)]


def measure(name: str, scenes: list[Sample], frames: int, budget: float) -> dict[str, Any]:
    """One network, all scenes one after the other."""
    place = torch.device("cpu")
    network = load_model(name)
    dense = DenseExecutor(network, place, choose_precision("auto", place)[1])
    segment = StreamingSegmenter(network, 64, budget, "auto", gate="learned")
    classes = len(network.info.classes)  # type: ignore[union-attr,arg-type]
    truth, truth_dense = ConfusionMatrix(classes), ConfusionMatrix(classes)
    own, full, agreement, steadiness, keys = [], [], [], [], 0
    for image in standing(scenes[0].image, WARM_UP):
        dense.labels(image)
        segment(image)
    for still in scenes:
        segment.reset()
        first: UInt8Array | None = None
        for image in standing(still.image, frames):
            before = _clocks()
            expected = dense.labels(image)
            middle = _clocks()
            labels, stats = segment(image)
            after = _clocks()
            first = expected.copy() if first is None else first
            keys += stats.whole
            agreement.append(float((labels == expected).mean()))
            steadiness.append(float((first == expected).mean()))
            truth.add(still.labels, labels)
            truth_dense.add(still.labels, expected)
            full.append(middle - before)
            own.append(after - middle)
    (dense_ms, dense_cpu), (own_ms, own_cpu) = np.median(full, axis=0) * 1e3, np.median(own, axis=0) * 1e3
    return {
        "model": name,
        "budget": budget,
        "scenes": len(scenes),
        "frames": frames * len(scenes),
        "key_frames": keys,
        "dense_ms": round(dense_ms, 2),
        "ms": round(own_ms, 2),
        "speedup": round(dense_ms / own_ms, 2),
        "less_processor_time": round(dense_cpu / own_cpu, 2),
        "speedup_in_all": round(np.sum(full, axis=0)[0] / np.sum(own, axis=0)[0], 2),
        "agreement": round(float(np.mean(agreement)), 4),
        "network_with_its_first_frame": round(float(np.mean(steadiness)), 4),
        "miou": round(truth.miou(), 4),
        "miou_dense": round(truth_dense.miou(), 4),
    }


def _clocks() -> npt.NDArray[np.float64]:
    """Seconds: of the wall, and of the processors for this process, which nobody else's work prolongs."""
    return np.array([time.perf_counter(), time.process_time()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="CamVid's folder; without it the synthetic street is shown")
    parser.add_argument("--frames", type=int, default=60, help="per scene")
    parser.add_argument("--scenes", type=int, default=3)
    parser.add_argument("--budget", type=float, default=0.5)
    parser.add_argument("--model", action="append", help="default: all shipped")
    arguments = parser.parse_args()
    places = np.linspace(0.1, 0.9, arguments.scenes)
    scenes = [scene(arguments.data, place) for place in places]
    names = arguments.model or list_models()
    found = [measure(name, scenes, arguments.frames, arguments.budget) for name in names]
    for record in found:
        print(*(f"{key} {value}" for key, value in record.items()))
    body = {
        "size": SIZE,
        "sigma": SIGMA,
        "quality": QUALITY,
        "threads": torch.get_num_threads(),
        "standing": found,
    }
    told = " ".join(Path(word).name if "/" in word else word for word in sys.argv[1:])
    name = "standing_car" if arguments.data is None else "standing_car_camvid"
    print(f"wrote {write_result(name, f'python -m bench.standing_car {told}'.strip(), body)}")


if __name__ == "__main__":
    main()
