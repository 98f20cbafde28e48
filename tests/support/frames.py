"""JPEGs made on the spot, and independent decoders for what comes back."""

import cv2
import numpy as np

from support.fake_engine import STEP


def jpeg(label: int = 3, width: int = 64, height: int = 48, quality: int = 95, **flags: int) -> bytes:
    """A frame of one colour that the fake engine labels ``label`` all over."""
    image = np.full((height, width, 3), STEP * label, np.uint8)
    return encode(image, quality, **flags)


def encode(
    image: np.ndarray, quality: int = 90, progressive: bool = False, sampling: int | None = None
) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
    if sampling is not None:
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    ok, data = cv2.imencode(".jpg", image, options)
    assert ok
    return data.tobytes()


def photo(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Something with edges, gradients and some noise, uint8 [H, W, 3]."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (max(2, height // 24), max(2, width // 24), 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return np.clip(smooth + random.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)


def decode_rle(data: bytes, width: int, height: int) -> np.ndarray:
    """Runs, straight from the definition in the .proto."""
    numbers, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(value)
            value = shift = 0
    assert shift == 0 and len(numbers) % 2 == 0
    return np.repeat(np.array(numbers[0::2], np.uint8), numbers[1::2]).reshape(height, width)


def decode_png(data: bytes, palette) -> np.ndarray:
    """Labels of a palette PNG by way of its colours, with OpenCV as the judge."""
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert bgr is not None
    by_color = {tuple(color): label for label, color in enumerate(palette)}
    colors, inverse = np.unique(bgr.reshape(-1, 3)[:, ::-1], axis=0, return_inverse=True)
    labels = np.array([by_color[tuple(int(v) for v in color)] for color in colors], np.uint8)
    return labels[inverse].reshape(bgr.shape[:2])
