"""`make bench`: everything that can be measured without data of others, and one table of it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from bench.reuse_speed import OVERHEAD
from bench.turns import RESULTS
from tilestream.models import list_models


def main() -> int:
    commands = [
        ["bench.dense_runtimes"],
        ["bench.reuse_speed"],
        ["bench.motion_error"],
        ["bench.standing_car"],
    ]
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
    tables = {
        "results": _runtimes,
        "reuse": _reuse,
        "points": _points,
        "clips": _clips,
        "motion": _motion,
        "standing": _standing,
        "runs": _runs,
    }
    for key, table in tables.items():
        if key in record:
            return table(record)
    skip = {"command", "date", "machine"}
    return [f"- {key}: {value}" for key, value in record.items() if key not in skip]


def _runtimes(record: dict[str, Any]) -> list[str]:
    results = record["results"]
    names = sorted({name for result in results for name in result["timings"]})
    head = " | ".join(f"{r['model']} {r['width']}x{r['height']}" for r in results)
    lines = [f"| median ms per frame | {head} |", "|---" * (len(results) + 1) + "|"]
    for name in names:
        cells = (f"{r['timings'][name]['median_ms']:.1f}" if name in r["timings"] else "-" for r in results)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _reuse(record: dict[str, Any]) -> list[str]:
    """Speed-up over the dense network by share of kept bins, and what is not the network, in % of it."""
    ratios = list(record["reuse"][0]["overhead_share_of_dense"])
    columns = ["key frame", *ratios, "labels only, key frame", "labels only, 0%"]
    lines = [f"| speed-up by share kept | dense ms | {' | '.join(columns)} | MB per session |"]
    lines += ["|---" * (len(columns) + 3) + "|"]
    for r in record["reuse"]:
        cells = [f"{r['model']} {r['width']}x{r['height']} {r['precision']}"]
        cells += [
            f"{r['timings']['dense']['median_ms']:.1f}",
            *(f"{r['speedup'][c]:.2f}" if c in r["speedup"] else "-" for c in columns),
        ]
        lines.append(f"| {' | '.join(cells)} | {r['bytes_per_session'] / 1e6:.1f} |")
    lines += ["", f"| overhead at 25 %, % of dense time | {' | '.join(OVERHEAD)} |", "|---" * 5 + "|"]
    for r in record["reuse"]:
        shares = r["overhead_share_of_dense"]["25%"]
        cells = [f"{r['model']} {r['width']}x{r['height']}", *(f"{shares[p]:.1%}" for p in OVERHEAD)]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for r in record["together"]:
        lines.append(
            f"- {r['model']}, {r['sessions']} sessions in one step against one by one, 25 % kept: "
            f"{r['throughput_ratio']:.2f} x frames/s"
        )
    return lines


def _motion(record: dict[str, Any]) -> list[str]:
    keys = list(next(iter(record["motion"].values())))
    lines = [f"| motion | {' | '.join(keys)} |", "|---" * (len(keys) + 1) + "|"]
    return lines + [
        f"| {name} | {' | '.join(str(found[key]) for key in keys)} |"
        for name, found in record["motion"].items()
    ]


def _standing(record: dict[str, Any]) -> list[str]:
    keys = list(record["standing"][0])
    lines = [f"| {' | '.join(keys)} |", "|---" * len(keys) + "|"]
    return lines + [
        f"| {' | '.join(str(value) for value in found.values())} |" for found in record["standing"]
    ]


def _runs(record: dict[str, Any]) -> list[str]:
    """One line per run; ``runs`` is a list of them, or a dictionary by name. Lists in a run are left out."""
    named = record["runs"]
    runs = [{"": name, **run} for name, run in named.items()] if isinstance(named, dict) else named
    columns = [key for key, value in runs[0].items() if not isinstance(value, list)]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for run in runs:
        cells = (run.get(key) for key in columns)
        shown = (
            " / ".join(map(str, cell.values())) if isinstance(cell, dict) else str(cell) for cell in cells
        )
        lines.append(f"| {' | '.join(shown)} |")
    return lines


def _points(record: dict[str, Any]) -> list[str]:
    dense = record["dense"]
    lines = [f"dense: mIoU {dense['miou']:.4f}, {dense['ms']:.1f} ms", ""]
    if record.get("monitor"):
        monitor = {key: value for key, value in record["monitor"].items() if key != "by_method"}
        lines += [f"rank correlations with the points lost: {monitor}", ""]
    columns = ["method", "budget", "MACs", "points lost", "agreement", "reuse agreement", "est. wrong"]
    columns += ["speed-up", "p50 ms", "p99 ms"]
    lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for p in record["points"]:
        cells = [p["method"], f"{p['budget']:g}", f"{p['macs_ratio']:.3f}", f"{p['miou_loss']:.2f}"]
        cells += [f"{p['agreement']:.4f}", *(_share(p.get(k)) for k in ("reuse_agreement", "reuse_wrong"))]
        cells += [f"{p['speedup_vs_dense']:.2f}"]
        cells += [f"{p['p50_ms']:.1f}", f"{p['p99_ms']:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _clips(record: dict[str, Any]) -> list[str]:
    columns = ["clip", "method", "budget", "MACs", "agreement", "p5", "reuse agreement", "ms", "speed-up"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for p in record["clips"]:
        cells = [
            p["clip"],
            p["method"],
            f"{p['budget']:g}",
            f"{p['macs_ratio']:.3f}",
            f"{p['agreement']:.4f}",
        ]
        cells += [f"{p['agreement_p5']:.4f}", _share(p["reuse_agreement"]), f"{p['ms']:.1f}"]
        lines.append(f"| {' | '.join([*cells, format(p['speedup_vs_dense'], '.2f')])} |")
    return lines


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    sys.exit(main())
