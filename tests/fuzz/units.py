"""Mutated access units through the decoder of a session: no crash, no hang, no leak, one outcome for each.

    .venv/bin/python tests/fuzz/units.py --units 100000

Another process decodes, so that a crash is told with the unit that did it. The exit code is 1 where anything
is not as it has to be. A seed always gives the same units.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.jpegs import LIMITS, WARM_UP, Report, held_memory, run
from support.video import STRUCTURES, encode_clip, moving_images
from tilestream.media.video.decoder import Outcomes, Unit, VideoDecoder, Wanted
from tilestream.media.video.limits import UnitLimits
from tilestream.messages import Codec, Failure

START = b"\0\0\1"
LENGTH = 20  # units of a stream
MUTATED = 0.15  # of the units
CODECS = {"h264": Codec.H264, "h265": Codec.H265}


class Streams:
    """Streams of units of which some are not what they were."""

    def __init__(self) -> None:
        images = moving_images(LENGTH, 80, 64)
        params = [*STRUCTURES.values(), "bframes=0:keyint=8:slices=4"]
        self._clips = [
            (codec, [unit.data for unit in encode_clip(images, codec, each, pixels)])
            for codec in CODECS
            for each, pixels in [*((each, "yuv420p") for each in params), (params[0], "yuv420p10le")]
        ]

    def make(self, draw: random.Random) -> tuple[str, list[bytes]]:
        """One stream and its codec."""
        codec, units = draw.choice(self._clips)
        _, others = draw.choice(self._clips)
        begin = draw.choice((0, 0, 0, draw.randrange(LENGTH)))
        return codec, [self._unit(unit, others, draw) for unit in units[begin:] + units[:begin]]

    def _unit(self, unit: bytes, others: list[bytes], draw: random.Random) -> bytes:
        while draw.random() < MUTATED:
            change = draw.choice((_bits, _bits, _header, _cut, _nals, _spliced))
            unit = change(unit, others, draw)
        return unit


def _bits(unit: bytes, others: list[bytes], draw: random.Random) -> bytes:
    changed = bytearray(unit)
    for _ in range(draw.choice((1, 1, 3, 10)) if changed else 0):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _header(unit: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """Where parameter sets and slice headers are."""
    parts = unit.split(START)
    index = draw.randrange(len(parts))
    parts[index] = _bits(parts[index][:24], others, draw) + parts[index][24:]
    return START.join(parts)


def _cut(unit: bytes, others: list[bytes], draw: random.Random) -> bytes:
    at = draw.randrange(len(unit) + 1)
    return draw.choice((unit[:at], unit[at:]))


def _nals(unit: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """NAL units left out, doubled, in another order, of another unit."""
    parts = [part for part in unit.split(START) if part.strip(b"\0")] or [b"\x65"]
    parts += draw.choice(others).split(START)[1:] if draw.random() < 0.3 else []
    chosen = draw.choices(parts, k=draw.randrange(1, 2 * len(parts) + 1))
    return b"".join(START + part for part in chosen)


def _spliced(unit: bytes, others: list[bytes], draw: random.Random) -> bytes:
    other = draw.choice(others)
    return unit[: draw.randrange(len(unit) + 1)] + other[draw.randrange(len(other)) :]


def decode_all(out: Connection, units: int, seed: int) -> None:
    """In a process of its own."""
    streams, report, warm, number = Streams(), Report(), 0, 0
    limits = UnitLimits(LIMITS, 64 << 20)
    while report.frames < units:
        codec, stream = streams.make(random.Random(f"{seed}/{number}"))
        decoder, done = VideoDecoder(CODECS[codec], limits, Wanted(None, 1 << 22)), []
        stream = stream[: units - report.frames]
        try:
            for index, data in enumerate(stream):
                begin = time.thread_time()
                done += decoder.decode(Unit(index, data, lambda: True))
                report.slowest_ms = max(report.slowest_ms, 1e3 * (time.thread_time() - begin))
            done += decoder.flush()
            problems = _problems(done, len(stream))
        except Exception:
            problems = [traceback.format_exc()]
        report.wrong += [f"stream {number} of seed {seed}: {problem}" for problem in problems]
        words = ["ok" if not isinstance(each, Failure) else each.reason.value for _, each in done]
        report.outcomes.update(words)
        before, report.frames, number = report.frames, report.frames + len(stream), number + 1
        if before < WARM_UP * units <= report.frames:
            warm = held_memory()
        if number % 5 == 0 or report.frames == units:
            report.grown_bytes = held_memory() - warm if warm else 0
            out.send(report)


def _problems(done: Outcomes, count: int) -> list[str]:
    found = []
    if sorted(index for index, _ in done) != list(range(count)):
        found.append(f"outcomes of units {sorted(index for index, _ in done)}")
    for _, outcome in done:
        if not isinstance(outcome, Failure) and outcome.pixels.shape != (*outcome.compute[::-1], 3):
            found.append(f"pixels {outcome.pixels.shape} of a picture for {outcome.compute}")
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    report = run(options.units, options.seed, decode_all)
    print(json.dumps({**vars(report), "wrong": report.wrong[:50]}, indent=2))
    sys.exit(not report.sound)


if __name__ == "__main__":
    main()
