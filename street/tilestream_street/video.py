"""Writes a synthetic drive as a video file."""

from __future__ import annotations

from pathlib import Path

import cv2

from tilestream_street.street import SyntheticStreet


def write_clip(
    path: str | Path, seed: int, frames: int, width: int = 480, height: int = 360, fps: float = 15.0
) -> None:
    """Writes `frames` frames of one street as an mp4; raises OSError when it cannot."""
    target = Path(path)
    if not target.parent.is_dir():
        raise OSError(f"cannot write {target}: {target.parent} is not a folder")
    street = SyntheticStreet(seed, width, height, fps)
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    if not writer.isOpened():
        raise OSError(f"cannot write {target}: OpenCV found no way to encode mp4 there")
    try:
        for frame in street.frames(frames):
            writer.write(cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
    finally:
        writer.release()
    if frames > 0 and (not target.is_file() or target.stat().st_size == 0):
        raise OSError(f"cannot write {target}: the encoder left no file")
