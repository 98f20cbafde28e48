"""What a masked training step plays: short clips with exact labels, and the bins that are kept of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from tilestream.engine.arrays import Mask
from tilestream.engine.gates.cells import class_borders
from tilestream.engine.motion.flow import Motion
from tilestream.messages import UInt8Array
from tilestream_street import SyntheticStreet
from tilestream_training.augment import AugmentOptions, augment, with_noise_and_jpeg
from tilestream_training.datasets.base import IGNORE_LABEL, Sample

STREET_SEED = 3000
STREET_FRAMES = 40
LONGEST_STEP = 3
MOST_PARTIAL = (STREET_FRAMES - 1) // LONGEST_STEP
"""Partial frames of a clip that a street is long enough for."""


@dataclass(frozen=True, slots=True)
class Clip:
    """``images``: uint8 [T, H, W, 3] RGB. ``labels``: uint8 [T, H, W], 0..classes-1 or IGNORE_LABEL."""

    images: UInt8Array
    labels: UInt8Array


def load_streets(count: int, cache: Path) -> tuple[Clip, ...]:
    """Synthetic drives of 40 frames; ``cache`` keeps them, since drawing one takes some ten seconds."""
    clips = []
    for seed in tqdm(range(STREET_SEED, STREET_SEED + count), desc="streets", disable=not count):
        path = cache / f"street-{seed}.npz"
        if not path.is_file():
            frames = list(SyntheticStreet(seed).frames(STREET_FRAMES))
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part.npz")
            np.savez(part, images=[f.image for f in frames], labels=[f.labels for f in frames])
            part.replace(path)
        with np.load(path) as arrays:
            clips.append(Clip(arrays["images"], arrays["labels"]))
    return tuple(clips)


def drive_through(sample: Sample, times: Sequence[int], rng: np.random.Generator) -> Clip:
    """A still as a camera would see it that drives on, at ``times`` in frames.

    The scene is taken for a corridor: a road below the horizon, walls beside it, and what is far in between.
    Nothing in it moves by itself, but labels stay exact. What comes into view from outside of the still
    is its edge, and ignored.
    """
    height, width = sample.labels.shape
    horizon, centre = height * rng.uniform(0.42, 0.52), width * rng.uniform(0.4, 0.6)
    y, x = np.indices((height, width), dtype=np.float32)
    road = np.maximum(y - horizon, 0) / height
    walls = np.abs(x - centre) / width * rng.uniform(0.2, 0.8)
    near = np.maximum(np.maximum(road, walls), 0.02).astype(np.float32)  # inverse depth, no unit
    speed = rng.uniform(-0.01, 0.12) if rng.random() < 0.85 else 0.0
    yaw = rng.normal(0, 1.5 if rng.random() < 0.7 else 6.0)  # pixels per frame
    sideways = rng.normal(0, 4.0)
    images, labels = [], []
    for time in times:
        bounce = rng.normal(0, 0.5)
        zoom = 1.0 / (1.0 + speed * time * near)
        source_x = centre + (x - centre) * zoom + yaw * time + sideways * time * near
        source_y = horizon + (y - horizon) * zoom + bounce
        image = cv2.remap(
            sample.image, source_x, source_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
        )
        exposed = image.astype(np.float32) * np.exp(rng.normal(0, 0.01))
        images.append(np.clip(exposed, 0, 255).astype(np.uint8))
        labels.append(
            cv2.remap(
                sample.labels,
                source_x,
                source_y,
                cv2.INTER_NEAREST,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=(IGNORE_LABEL,),
            )
        )
    return Clip(np.stack(images), np.stack(labels))


def draw_times(count: int, rng: np.random.Generator, longest: int = LONGEST_STEP) -> list[int]:
    """``count`` frame numbers from 0 on, one to ``longest`` apart."""
    return [0, *np.cumsum(rng.integers(1, longest + 1, count - 1)).tolist()]


def cut(clip: Clip, times: Sequence[int], rng: np.random.Generator) -> Clip:
    """The frames ``times`` behind a random first one; now and then backwards."""
    start = int(rng.integers(len(clip.images) - times[-1]))
    chosen = [start + time for time in times]
    if rng.random() < 0.15:
        chosen.reverse()
    return Clip(clip.images[chosen], clip.labels[chosen])


def same_view(clip: Clip, options: AugmentOptions, rng: np.random.Generator) -> Clip:
    """A random view of a clip, the same of every frame."""
    seed = int(rng.integers(2**31))
    pairs = [
        augment(Sample(image, labels, ""), options, np.random.default_rng(seed))
        for image, labels in zip(clip.images, clip.labels, strict=True)
    ]
    return Clip(np.stack([image for image, _ in pairs]), np.stack([labels for _, labels in pairs]))


def as_sent(images: UInt8Array, most_noise: float, rng: np.random.Generator) -> UInt8Array:
    """A clip, uint8 [T, H, W, 3], with what sensor and JPEG add to every frame anew.

    ``most_noise``: its standard deviation is drawn from 0 to so many luma steps, once per clip.
    """
    sigma, quality = rng.uniform(0.0, most_noise), int(rng.integers(75, 98))
    return np.stack([with_noise_and_jpeg(image, sigma, quality, rng) for image in images])


def draw_bins(
    bins: tuple[int, int],
    units: int,
    motion: Motion,
    labels: UInt8Array,
    bin_size: int,
    shares: tuple[float, float],
    rng: np.random.Generator,
) -> Mask:
    """Bins to keep, bool [units, bins_h, bins_w], all blocks of a bin together.

    ``motion``: a batch of one. A share between ``shares``; which, by a random mixture of chance, of chance
    that neighbours have in common, of what the motion leaves, and of the class borders in ``labels``, uint8
    [H, W]: where gates find most to compute.
    """
    rows, columns = bins
    scores: npt.NDArray[np.float64] = rng.random() * rng.normal(size=bins)
    coarse = rng.normal(size=(2, 3)).astype(np.float32)
    scores = scores + rng.random() * cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC)
    if motion.residual is not None:
        residual = _per_bin(motion.residual.numpy()[0], bins, bin_size // motion.scale)
        scores = scores + rng.random() * _standardised(residual)
    borders = _per_bin(class_borders(labels), bins, bin_size)
    scores = scores + 2.0 * rng.random() * _standardised(borders)
    count = max(1, round(rng.uniform(*shares) * rows * columns))
    keep = scores >= np.sort(scores, axis=None)[-count]
    return np.repeat(keep[None], units, axis=0)


def _standardised(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return (values - values.mean()) / (values.std() + 1e-3)


def _per_bin(values: UInt8Array, bins: tuple[int, int], side: int) -> npt.NDArray[np.float64]:
    height, width = values.shape
    rest = ((0, bins[0] * side - height), (0, bins[1] * side - width))
    padded = np.pad(values.astype(np.float64), rest, mode="edge")
    return padded.reshape(bins[0], side, bins[1], side).mean(axis=(1, 3))
