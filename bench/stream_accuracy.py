"""`tilestream eval stream` or `eval clips`, its result kept: accuracy and time of partial frames."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.turns import write_result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", help="CamVid's folder; its split val is a video of 15 Hz")
    source.add_argument("--clips", nargs="+", help="video files, unlabelled")
    parser.add_argument("--model", default="swiftnet_resnet18")
    parser.add_argument("--standstill", help="FRAMESxTIMES, only with --data")
    arguments, more = parser.parse_known_args()
    if arguments.data:
        kind, words, told = "stream", ["--data", arguments.data], ["--data", "camvid"]
    else:
        kind, words, told = "clips", arguments.clips, ["--clips", *(Path(c).name for c in arguments.clips)]
    name = f"{kind}_accuracy_{arguments.model}"
    if arguments.standstill:
        more += ["--standstill", arguments.standstill]
        name += f"_standstill_{arguments.standstill}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        command = [sys.executable, "-m", "tilestream", "eval", kind, *words, "--json", str(path)]
        status = subprocess.run([*command, "--model", arguments.model, *more], check=False).returncode
        if status:
            return status
        body = json.loads(path.read_text())
    told = ["python -m bench.stream_accuracy", *told, "--model", arguments.model, *more]
    print(f"wrote {write_result(name, ' '.join(told), body)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
