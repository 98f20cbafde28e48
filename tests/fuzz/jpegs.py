"""Mutated JPEGs through both decoders: no crash, no hang, no leak, and what is taken looks as elsewhere.

    .venv/bin/python tests/fuzz/jpegs.py --frames 100000

Another process decodes, so that a crash is told with the frame that did it. The exit code is 1 where anything
is not as it has to be. A seed always gives the same frames.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.mutations import Mutator
from support.jpegs import as_opencv, as_pillow
from tilestream.media import jpeg
from tilestream.media.errors import BadFrame
from tilestream.media.jpeg_damage import WARNINGS
from tilestream.media.jpeg_header import read_header
from tilestream.messages import Codec, Failure

LIMITS = jpeg.FrameLimits(1 << 20, 1 << 20, 4096)
SLOW_SECONDS = 1.0  # of the decoding thread's own time: what others do on this machine does not count
STUCK_SECONDS = 120.0  # until a process that says nothing is held to hang, also on a busy machine
WARM_UP = 0.2  # of the frames: until then memory may grow
LEAK_BYTES = 200  # a frame, of growth after that


@dataclass
class Report:
    """``outcomes``: "ok" or a reason, and how many frames. ``wrong``: a line per frame that was not right."""

    frames: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_ms: float = 0.0
    grown_bytes: int = 0
    seconds: float = 0.0

    @property
    def leaks(self) -> bool:
        return self.grown_bytes > max(LEAK_BYTES * self.frames, 16 << 20)

    @property
    def sound(self) -> bool:
        return not (self.wrong or self.leaks or self.slowest_ms > 1e3 * SLOW_SECONDS)


def run(
    frames: int, seed: int = 0, decode_all: Callable[[Connection, int, int], None] | None = None
) -> Report:
    """Decode as many mutated frames in another process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=decode_all or _decode_all, args=(theirs, frames, seed), daemon=True)
    report, begin = Report(), time.monotonic()
    process.start()
    theirs.close()
    try:
        while ours.poll(STUCK_SECONDS):
            report = ours.recv()
            if report.frames == frames:
                break
        else:
            report.wrong.append(f"hangs within the 100 frames behind frame {report.frames} of seed {seed}")
            process.kill()
    except EOFError:
        process.join()
        report.wrong.append(
            f"ended with {process.exitcode} within 100 frames behind {report.frames}, seed {seed}"
        )
    process.join()
    report.seconds = time.monotonic() - begin
    return report


def _decode_all(out: Connection, frames: int, seed: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # OpenCV prints libjpeg's warnings
    decoders = {"system": jpeg.system_decoder(), "bundled": jpeg.bundled_decoder()}
    chosen = {name: decoder for name, decoder in decoders.items() if decoder is not None}
    mutator, report, warm = Mutator(), Report(), 0
    for number in range(frames):
        data = mutator.make(random.Random(f"{seed}/{number}"))
        begin = time.thread_time()
        try:
            answers = {name: _answer(data, decoder) for name, decoder in chosen.items()}
            spent = time.thread_time() - begin
            word, problems = _word(next(iter(answers.values()))), _problems(data, answers)
        except Exception:  # anything but BadFrame
            spent, word, problems = 0.0, "exception", [traceback.format_exc()]
        report.slowest_ms = max(report.slowest_ms, 1e3 * spent / len(chosen))
        report.outcomes[word] += 1
        report.wrong += [f"frame {number} of seed {seed}: {problem}" for problem in problems]
        report.frames = number + 1
        if report.frames == max(1, int(WARM_UP * frames)):
            warm = held_memory()
        if report.frames % 100 == 0 or report.frames == frames:
            report.grown_bytes = held_memory() - warm if warm else 0
            out.send(report)


def _answer(data: bytes, decoder: jpeg.Decode) -> np.ndarray | Failure:
    jpeg._decode = decoder
    try:
        # As where an engine takes bytes: looked through for it, or decoded. Both ways have to agree.
        jpeg.picture_for((Codec.JPEG,), data, LIMITS, None, 1 << 22)
        looked = None
    except BadFrame as bad:
        looked = bad.failure
    try:
        pixels = jpeg.picture_for((), data, LIMITS, None, 1 << 22).pixels
    except BadFrame as bad:
        return bad.failure
    return pixels if looked is None else looked


def _problems(data: bytes, answers: dict[str, np.ndarray | Failure]) -> list[str]:
    found = [
        f"{name} says {answer.detail!r}, which is no damage"
        for name, answer in answers.items()
        if isinstance(answer, Failure)
        and any(w.text in answer.detail.lower() for w in WARNINGS if not w.damage)
    ]
    first, *others = answers.values()
    if any(isinstance(each, Failure) is not isinstance(first, Failure) for each in others):
        return [*found, f"one decoder takes it: {[_word(each) for each in answers.values()]}"]
    if isinstance(first, Failure):
        return found
    if not all(np.array_equal(first, each) for each in others):
        found.append("the decoders make different pictures")
    for reader in (as_opencv, as_pillow):
        seen = reader(data)
        seen = reader(read_header(data).data) if seen is None else seen
        if seen is None or not np.array_equal(seen, first):
            found.append(f"{reader.__name__} {'shows nothing' if seen is None else 'sees it otherwise'}")
    return found


def _word(answer: np.ndarray | Failure) -> str:
    return answer.reason.value if isinstance(answer, Failure) else "ok"


def held_memory() -> int:
    """What this process holds, bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    report = run(options.frames, options.seed)
    print(json.dumps({**vars(report), "wrong": report.wrong[:50]}, indent=2))
    sys.exit(not report.sound)


if __name__ == "__main__":
    main()
