"""Random views of the frames of a clip, on the host: scale, crop, flip, light and sharpness."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tilestream_training.datasets.base import IGNORE_LABEL, Sample, UInt8Array


@dataclass(frozen=True, slots=True)
class AugmentOptions:
    """``crop``: height, width in pixels. ``scale``: range of the zoom. ``jitter``: 0 = off, 1 = strong.

    Of single stills, not of clips: ``rotation``, at most so many radians either way, and ``mix``, the share
    of views that classes of another view are pasted into.
    """

    crop: tuple[int, int] = (288, 384)
    scale: tuple[float, float] = (0.65, 2.0)
    jitter: float = 1.0
    rotation: float = 0.07
    mix: float = 0.5


def augment(
    sample: Sample, options: AugmentOptions, rng: np.random.Generator
) -> tuple[UInt8Array, UInt8Array]:
    """A random view: image uint8 [h, w, 3] and labels uint8 [h, w] of the crop's size.

    What lies outside the still is black and ignored.
    """
    low, high = options.scale
    zoom = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    stretch = float(np.exp(rng.uniform(-0.1, 0.1)))
    height, width = options.crop
    source_w, source_h = width / (zoom * stretch), height / (zoom / stretch)
    full_h, full_w = sample.labels.shape
    left, top = rng.uniform(0, 1) * (full_w - source_w), rng.uniform(0, 1) * (full_h - source_h)
    flip = rng.random() < 0.5
    x_scale = width / source_w
    y_scale = height / source_h
    matrix = np.array([[x_scale, 0, -left * x_scale], [0, y_scale, -top * y_scale]], dtype=np.float64)
    if flip:
        matrix[0] = [-x_scale, 0, width - 1 + left * x_scale]
    image = cv2.warpAffine(_presmoothed(sample.image, zoom), matrix, (width, height), flags=cv2.INTER_LINEAR)
    labels = cv2.warpAffine(
        sample.labels,
        matrix,
        (width, height),
        flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(IGNORE_LABEL,),
    )
    return _light(np.asarray(image, dtype=np.uint8), options.jitter, rng), np.asarray(labels, dtype=np.uint8)


def _presmoothed(image: UInt8Array, zoom: float) -> UInt8Array:
    """Without the detail that would alias when the image is shrunk by ``zoom``."""
    if zoom >= 0.8:
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.5 * (1.0 / zoom - 0.6)), dtype=np.uint8)


def _light(image: UInt8Array, strength: float, rng: np.random.Generator) -> UInt8Array:
    """Brightness, contrast, gamma, saturation, colour cast; now and then blur or noise."""
    if strength <= 0:
        return image
    values = np.arange(256, dtype=np.float32) / 255.0
    gamma = np.exp(rng.uniform(-0.45, 0.45) * strength)
    contrast = 1.0 + rng.uniform(-0.35, 0.35) * strength
    offset = rng.uniform(-0.12, 0.12) * strength
    cast = 1.0 + rng.uniform(-0.1, 0.1, size=3) * strength
    tables = ((values[:, None] ** gamma - 0.5) * contrast + 0.5 + offset) * cast[None, :]
    tables = np.clip(tables * 255.0, 0, 255).astype(np.uint8)
    image = np.asarray(cv2.LUT(image, tables[None]), dtype=np.uint8)
    saturation = 1.0 + rng.uniform(-0.6, 0.4) * strength
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    image = np.asarray(cv2.addWeighted(image, saturation, gray, 1.0 - saturation, 0.0), dtype=np.uint8)
    dice = rng.random()
    if dice < 0.15 * strength:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2)), dtype=np.uint8)
    elif dice < 0.3 * strength:
        noise = rng.standard_normal(image.shape[:2], dtype=np.float32)[..., None] * rng.uniform(2, 9)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return image


def with_noise_and_jpeg(
    image: UInt8Array, sigma: float, quality: int, rng: np.random.Generator
) -> UInt8Array:
    """What a camera sends of ``image``, uint8 [H, W, 3] RGB: noise of ``sigma`` luma steps, and JPEG."""
    noise = rng.normal(0.0, sigma, (*image.shape[:2], 1))
    noisy = np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(noisy, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), dtype=np.uint8)
