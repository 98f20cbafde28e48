"""From rendered colours to a camera's picture: haze, exposure, lens, sensor noise."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tilestream_street.noise import Image
from tilestream_street.seeding import Topic, generator
from tilestream_street.style import Style


class Finish:
    """Applies one street's air and camera to frames of a fixed size."""

    def __init__(self, seed: int, style: Style, width: int, height: int, noise: bool) -> None:
        self._seed, self._style, self._noise = seed, style, noise
        self._size = (height, width)
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        falloff = 1 - style.vignette * ((x * x + y * y) / 2) ** 1.5
        cast = np.array(style.light.cast)
        self._gain: NDArray[np.float32] = (falloff[..., None] * cast).astype(np.float32)
        self._haze = (falloff[..., None] * cast * np.array(style.light.haze) * style.light.gain).astype(
            np.float32
        )
        if noise:
            rng = generator(seed, Topic.NOISE)
            bank = rng.standard_normal((height + 64, width + 64, 3), dtype=np.float32)
            # a sensor's grain is partly common to the channels, and a little soft
            bank = 0.7 * bank + 0.5 * bank[..., :1]
            self._bank = (cv2.GaussianBlur(bank, (3, 3), 0.55) * np.float32(style.grain * 1.4)).astype(
                np.float32
            )

    def apply(self, colour: Image, inverse_depth: NDArray[np.float32], t: int) -> Image:
        """uint8 [H, W, 3] of frame `t` from rendered colours and 1 / depth (0: backdrop, without haze)."""
        style = self._style
        distance = 1.0 / np.maximum(inverse_depth, np.float32(1e-6))
        clear = cv2.exp(distance * np.float32(-1.0 / style.light.haze_range))
        clear[inverse_depth <= 0] = 1.0
        clear = cv2.merge([clear, clear, clear])
        # haze + clear * (colour - haze), both as the lens and the exposure leave them
        image = cv2.multiply(colour, self._gain, dtype=cv2.CV_32F)
        image = cv2.add(cv2.multiply(cv2.subtract(image, self._haze), clear), self._haze)
        if style.blur > 0.15:
            image = cv2.GaussianBlur(image, (3, 3), style.blur)
        if self._noise:
            rng = generator(self._seed, Topic.NOISE, t)
            y, x = (int(v) for v in rng.integers(0, 65, 2))
            flips = rng.integers(0, 2, 2)
            grain = self._bank[y : y + self._size[0], x : x + self._size[1]]
            image = image + grain[:: 1 if flips[0] else -1, :: 1 if flips[1] else -1]
        return np.asarray(np.clip(image, 0, 255), dtype=np.uint8)
