"""How far the motion that moves features is from the exact one: end-point error on the synthetic street.

Flow is estimated on luma thumbnails, as the engine does, and compared with the renderer's motion at the same
resolution, where the point was visible in the previous frame. Beside it: how well the labels of the previous
frame, moved along either motion, fit the labels of the frame.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import Tensor

from bench.turns import write_result
from tilestream.engine.motion.estimators import DisMotion, MotionEstimator, NoMotion
from tilestream.engine.motion.flow import Motion
from tilestream.engine.motion.luma import thumbnails
from tilestream.engine.motion.warp import displace, resized
from tilestream.messages import Float32Array
from tilestream_street import SyntheticStreet
from tilestream_street.street import StreetFrame

SIZE = (480, 360)
SCALE = 2  # image pixels per thumbnail pixel at that size
SEEDS = (1000, 1001, 1002, 1003)


class Errors:
    """End-point errors in image pixels, and the share of labels that fit after moving."""

    def __init__(self) -> None:
        self._end_points: list[Float32Array] = []
        self._fits: list[float] = []

    def add(self, motion: Motion, previous: StreetFrame, current: StreetFrame) -> None:
        exact = cv2.resize(current.motion, None, fx=1 / SCALE, fy=1 / SCALE, interpolation=cv2.INTER_NEAREST)
        seen = cv2.resize(
            current.visible.astype(np.uint8), exact.shape[1::-1], interpolation=cv2.INTER_NEAREST
        )
        flow = motion.flow.numpy()[0] * SCALE
        error = np.linalg.norm(flow - exact, axis=2)
        self._end_points.append(error[seen > 0].astype(np.float32))
        fine = cv2.resize(flow, current.labels.shape[::-1])
        moved = displace(previous.labels, np.asarray(fine, dtype=np.float32), cv2.INTER_NEAREST)
        self._fits.append(float((moved == current.labels)[current.visible].mean()))

    def record(self) -> dict[str, float]:
        errors = np.concatenate(self._end_points)
        return {
            "epe_mean_px": round(float(errors.mean()), 3),
            "epe_median_px": round(float(np.median(errors)), 3),
            "epe_p90_px": round(float(np.percentile(errors, 90)), 3),
            "moved_labels_that_fit": round(float(np.mean(self._fits)), 4),
        }


class ExactMotion:
    """The renderer's own motion, at the thumbnail's resolution."""

    def __init__(self) -> None:
        self.frame: StreetFrame | None = None

    def estimate(self, previous: Tensor, current: Tensor, expected: Tensor, scale: int) -> Motion:
        assert self.frame is not None
        exact = torch.from_numpy(self.frame.motion.astype(np.float32))[None]
        flow = resized(exact, current.shape[1], current.shape[2], cv2.INTER_NEAREST) / scale
        return Motion(flow, torch.zeros(current.shape, dtype=torch.bool), scale)


class FromRest(DisMotion):
    """Does not look at the frame before."""

    def estimate(self, previous: Tensor, current: Tensor, expected: Tensor, scale: int) -> Motion:
        return super().estimate(previous, current, torch.zeros_like(expected), scale)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=40, help="frames per street")
    arguments = parser.parse_args()
    exact = ExactMotion()
    estimators: dict[str, MotionEstimator] = {
        "DIS (the default)": DisMotion(),
        "DIS, beginning with no motion": FromRest(),
        "DIS, stopping at half resolution": DisMotion(finest_scale=1),
        "no motion": NoMotion(),
        "exact": exact,
    }
    errors: dict[str, Errors] = defaultdict(Errors)
    for seed in SEEDS:
        frames = list(SyntheticStreet(seed, *SIZE).frames(arguments.frames))
        expected: dict[str, Tensor] = {}
        for previous, current in pairwise(frames):
            exact.frame = current
            before, now = (thumbnails([torch.from_numpy(f.image)], SCALE) for f in (previous, current))
            nothing = torch.zeros((*now.shape, 2))
            for name, estimator in estimators.items():
                motion = estimator.estimate(before, now, expected.get(name, nothing), SCALE)
                errors[name].add(motion, previous, current)
                expected[name] = motion.flow
    body = {
        "size": SIZE,
        "streets": SEEDS,
        "motion": {name: found.record() for name, found in errors.items()},
    }
    for name, record in body["motion"].items():  # type: ignore[attr-defined]
        print(f"{name:50}", *(f"{key} {value:<8}" for key, value in record.items()))
    command = "python -m bench.motion_error " + " ".join(sys.argv[1:])
    print(f"wrote {write_result('motion_error', command.strip(), body)}")


if __name__ == "__main__":
    main()
