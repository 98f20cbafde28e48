"""What masks are worth under overload: mIoU of what comes back, overload control against pinned budgets.

Cameras play a labelled clip (CamVid's 15 Hz stretch) by the clock, at rates that make up a given share of
what the machine computes in full. Scored are the masks that came (``answered``), and what a user has at every
frame: its mask, or the latest one before it (``held``).
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any

from bench.overload import PINNED, by_the_clock
from bench.server_overhead import served_fps
from bench.turns import write_result
from tilestream.messages import UInt8Array
from tilestream_client import AsyncClient, Client, Result
from tilestream_training.datasets.camvid import CamVid
from tilestream_training.metrics import ConfusionMatrix
from tools.server_process import serving


async def play(address: str, jpegs: list[bytes], sessions: int, fps: float) -> list[list[Result]]:
    """Every session's results."""

    async def camera(client: AsyncClient, begin: float) -> list[Result]:
        stream = client.stream(by_the_clock(jpegs, fps, begin), queue_policy="drop-oldest")
        return [result async for result in stream]

    async with AsyncClient(address, own_connection=True) as client:
        now = time.monotonic()
        spread = [now + index / (fps * sessions) for index in range(sessions)]
        return list(await asyncio.gather(*(camera(client, begin) for begin in spread)))


def score(played: list[list[Result]], truths: list[UInt8Array], classes: int) -> dict[str, Any]:
    """Accuracy over all sessions."""
    answered, held, masks = ConfusionMatrix(classes), ConfusionMatrix(classes), 0
    for results in played:
        latest: UInt8Array | None = None
        for result in results:
            truth = truths[result.frame_id]
            if result.labels is not None:
                latest = result.labels
                masks += 1
                answered.add(truth, latest)
            if latest is not None:
                held.add(truth, latest)
    sent = sum(len(results) for results in played)
    return {
        "frames": sent,
        "with_mask": masks,
        "miou_answered": round(answered.miou(), 4),
        "miou_held": round(held.miou(), 4),
    }


def main() -> None:
    """Measure and write ``bench/results/overload_accuracy.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of CamVid")
    parser.add_argument("--model", default="swiftnet_resnet18")
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.9, 1.5, 3.0])
    arguments = parser.parse_args()
    dataset = CamVid(arguments.data, "val")
    jpegs = [image.read_bytes() for image, _ in dataset.pairs]
    truths = [dataset[index].labels for index in range(len(dataset))]
    runs = []
    flags = ("--models", arguments.model)
    with serving(*flags, "--block-budget", "1") as ours, serving(*flags, *PINNED) as pinned:
        with Client(pinned) as client:
            served_fps(client, jpegs[:5], arguments.model, 2)
            capacity = served_fps(client, jpegs[:40], arguments.model, 2)[0]
        for load in arguments.loads:
            fps = load * capacity / arguments.sessions
            for kind, address in (("adaptive", ours), ("pinned", pinned)):
                time.sleep(3.0)
                played = asyncio.run(play(address, jpegs, arguments.sessions, fps))
                scores = score(played, truths, len(dataset.class_names))
                runs.append({"server": kind, "load": load, "fps_each": round(fps, 2), **scores})
                print(runs[-1], flush=True)
    command = "python -m bench.overload_accuracy --data camvid"
    write_result(
        "overload_accuracy",
        command + f" --model {arguments.model} --sessions {arguments.sessions}",
        {
            "model": arguments.model,
            "sessions": arguments.sessions,
            "capacity_fps": round(capacity, 2),
            "runs": runs,
        },
    )


if __name__ == "__main__":
    main()
