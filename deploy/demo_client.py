"""Streams the synthetic street to a server for ever: the client of the compose file's `demo` profile."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from pathlib import Path

import av

from tilestream_client import Client, TilestreamError
from tilestream_client.sources import open_source, paced
from tilestream_street import write_clip

FRAMES, SEED, FPS = 90, 12, 15.0
PAUSE = 2.0  # seconds before a lost server is tried again


def main() -> None:
    """Draw the clip once, then send it again and again."""
    server = os.environ.get("TILESTREAM_SERVER", "localhost:50051")
    rate = float(os.environ.get("DEMO_FPS", "5"))
    clip = Path(tempfile.mkdtemp()) / "street.mp4"
    write_clip(clip, seed=SEED, frames=FRAMES, width=480, height=360, fps=FPS)
    while True:
        try:
            stream_for_ever(server, clip, rate)
        except (TilestreamError, OSError, av.error.FFmpegError) as error:
            print(f"demo: {server}: {error}; trying again", flush=True)
            time.sleep(PAUSE)


def stream_for_ever(server: str, clip: Path, rate: float) -> None:
    """One session, as long as it lives."""
    frames = (frame for _ in itertools.count() for frame in open_source(str(clip)))
    with Client(server) as client:
        for result in client.stream(paced(frames, rate), camera_id="demo"):
            if not result.ok:
                print(f"demo: frame {result.frame_id}: {result.status} {result.detail}", flush=True)


if __name__ == "__main__":
    main()
