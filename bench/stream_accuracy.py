"""`tilestream eval stream`, its result kept: accuracy and time of a labelled video's partial frames."""

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
    parser.add_argument("--data", required=True, help="CamVid's folder; its split val is a video of 15 Hz")
    parser.add_argument("--model", default="swiftnet_resnet18")
    arguments, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        command = [sys.executable, "-m", "tilestream", "eval", "stream", "--json", str(path)]
        command += ["--data", arguments.data, "--model", arguments.model, *more]
        status = subprocess.run(command, check=False).returncode
        if status:
            return status
        body = json.loads(path.read_text())
    told = f"python -m bench.stream_accuracy --data camvid --model {arguments.model}"
    print(f"wrote {write_result(f'stream_accuracy_{arguments.model}', ' '.join([told, *more]), body)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
