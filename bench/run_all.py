"""`make bench`: everything that can be measured without data of others, and one table of it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from bench.turns import RESULTS
from tilestream.models import list_models


def main() -> int:
    commands = [["bench.dense_runtimes"]]
    commands += [["bench.server_overhead", "--model", model] for model in list_models()]
    for command in commands:
        print(f"\n=== {' '.join(command)}", flush=True)
        status = subprocess.run([sys.executable, "-m", *command], check=False).returncode
        if status:
            return status
    (RESULTS / "README.md").write_text(table())
    print(f"\nwrote {RESULTS / 'README.md'}")
    return 0


def table() -> str:
    """All results in Markdown."""
    lines = [
        "# Results",
        "",
        "Made by `make bench`; ratios are of medians of contenders that took turns.",
        "",
    ]
    for path in sorted(RESULTS.glob("*.json")):
        record = json.loads(path.read_text())
        place = record["machine"]
        lines += [f"## {path.stem}", "", f"`{record['command']}`, {record['date']}, {place['cpu']}, "]
        lines[-1] += f"{place['cores']} cores ({', '.join(place['instructions'])})"
        lines += ["", *_body(record), ""]
    return "\n".join(lines).rstrip() + "\n"


def _body(record: dict[str, Any]) -> list[str]:
    if "results" in record:
        return _runtimes(record["results"])
    skip = {"command", "date", "machine"}
    return [f"- {key}: {value}" for key, value in record.items() if key not in skip]


def _runtimes(results: list[dict[str, Any]]) -> list[str]:
    names = sorted({name for result in results for name in result["timings"]})
    head = " | ".join(f"{r['model']} {r['width']}x{r['height']}" for r in results)
    lines = [f"| median ms per frame | {head} |", "|---" * (len(results) + 1) + "|"]
    for name in names:
        cells = (f"{r['timings'][name]['median_ms']:.1f}" if name in r["timings"] else "-" for r in results)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
