"""A camera, newest frame first: ``python stream_camera.py [INDEX] [HOST:PORT]``; Ctrl-C ends it."""

import sys

from tilestream_client import Client

with Client(*sys.argv[2:3]) as client:
    stream = client.stream(int(sys.argv[1]) if len(sys.argv) > 1 else 0, queue_policy="latest-only")
    print("served by", stream.session.model.name)
    for result in stream:
        reused = f"{result.reuse.block_drop_rate:.0%} reused" if result.reuse else result.reason
        print(f"frame {result.frame_id}: {result.status}, {result.latency * 1e3:.0f} ms, {reused}")
