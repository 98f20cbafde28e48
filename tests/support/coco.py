"""pycocotools' RLE, step by step as its maskApi.c has it."""

import numpy as np


def encoded(counts: list[int]) -> bytes:
    """rleToString."""
    text = bytearray()
    for index, count in enumerate(counts):
        x = int(count)
        if index > 2:
            x -= int(counts[index - 2])
        more = True
        while more:
            c = x & 0x1F
            x >>= 5
            more = x != -1 if c & 0x10 else x != 0
            text.append((c | 0x20 if more else c) + 48)
    return bytes(text)


def counts_of(text: bytes) -> list[int]:
    """rleFrString."""
    counts: list[int] = []
    p = 0
    while p < len(text):
        x, k, more = 0, 0, True
        while more:
            c = text[p] - 48
            x |= (c & 0x1F) << 5 * k
            more = bool(c & 0x20)
            p, k = p + 1, k + 1
            if not more and c & 0x10:
                x |= -1 << 5 * k
        if len(counts) > 2:
            x += counts[-2]
        counts.append(x)
    return counts


def decoded(text: bytes, height: int, width: int) -> np.ndarray:
    """rleDecode: bool [H, W]."""
    counts = counts_of(text)
    assert all(count > 0 for count in counts[1:]) and sum(counts) == height * width
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(width, height).T
