"""Luma thumbnails: what the motion is found on, and what tells whether two frames show the same."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from tilestream.engine.arrays import Maps
from tilestream.messages import UInt8Array

MAX_THUMBNAIL_SIDE = 320
"""Pixels of the longer side: what flow costs depends on the thumbnail's area only."""

STILL_DIFFERENCE = 3.0
"""Luma steps, mean over 8 x 8 pixels, up to which two thumbnails show the same and differ by noise."""

_STILL_SIDE = 8


def thumbnail_scale(height: int, width: int) -> int:
    """Image pixels per thumbnail pixel: the power of two that leaves at most 320 on the longer side."""
    scale = 1
    while max(height, width) > MAX_THUMBNAIL_SIDE * scale:
        scale *= 2
    return scale


def thumbnail_shape(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the thumbnail of an image of that size."""
    scale = thumbnail_scale(height, width)
    return -(-height // scale), -(-width // scale)


def thumbnails(images: Maps, scale: int) -> Tensor:
    """Luma (Rec. 601) of images uint8 [N, H, W, 3] RGB, averaged over ``scale`` x ``scale`` pixels.

    uint8 [N, ceil(H / scale), ceil(W / scale)]; the edge is replicated where an average lacks pixels, so
    that the top left corners stay aligned.
    """
    height, width = images[0].shape[:2]
    rows, columns = -(-height // scale), -(-width // scale)
    result = torch.empty((len(images), rows, columns), dtype=torch.uint8)
    border = (0, rows * scale - height, 0, columns * scale - width, cv2.BORDER_REPLICATE)
    for image, target in zip(images, result.numpy(), strict=True):
        if scale == 1:
            cv2.cvtColor(image.numpy(), cv2.COLOR_RGB2GRAY, dst=target)
            continue
        luma = cv2.cvtColor(image.numpy(), cv2.COLOR_RGB2GRAY)
        if border[1] or border[3]:
            luma = cv2.copyMakeBorder(luma, *border)
        cv2.resize(luma, (columns, rows), dst=target, interpolation=cv2.INTER_AREA)
    return result


def show_the_same(previous: UInt8Array, current: UInt8Array) -> bool:
    """Whether two thumbnails of one size differ by no more than noise anywhere."""
    difference = cv2.absdiff(previous, current)
    if cv2.mean(difference)[0] > STILL_DIFFERENCE:
        return False  # most frames of a drive: then some block is above it, too
    rows, columns = (max(1, side // _STILL_SIDE) for side in current.shape)  # of 8 pixels or a little more
    means = cv2.resize(difference.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    return float(means.max()) <= STILL_DIFFERENCE
