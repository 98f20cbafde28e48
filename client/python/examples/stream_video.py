"""The share of every class in a video: ``python stream_video.py drive.mp4 [HOST:PORT]``."""

import sys

import numpy as np

from tilestream_client import Client

with Client(*sys.argv[2:3]) as client:
    for result in client.stream(sys.argv[1]):
        if result.labels is not None:
            share = np.bincount(result.labels.ravel(), minlength=256) / result.labels.size
            print(
                result.frame_id,
                {c.name: f"{share[c.value]:.0%}" for c in result.classes if share[c.value] > 0.01},
            )
        else:
            print(result.frame_id, result.status, result.reason)
