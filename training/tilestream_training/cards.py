"""Model cards: what a weight file is, where it comes from and how good it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tilestream_training.evaluation import StillsReport


@dataclass(frozen=True, slots=True)
class Phase:
    """One uninterrupted use of `tilestream train` on a run: from which step on, and how it was called."""

    from_step: int
    command: str
    data: tuple[str, ...]  # specification, number of stills and share of each data set
    licences: tuple[str, ...]


def record_phase(directory: Path, phase: Phase) -> None:
    """Append a phase to ``phases.jsonl`` of a run, unless it merely repeats the one before."""
    path = directory / "phases.jsonl"
    known = read_phases(directory)
    if known and known[-1].command == phase.command:
        return
    directory.mkdir(parents=True, exist_ok=True)
    line = {name: getattr(phase, name) for name in Phase.__dataclass_fields__}
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def read_phases(directory: Path) -> list[Phase]:
    """All phases of a run, the first one first."""
    path = directory / "phases.jsonl"
    if not path.is_file():
        return []
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [Phase(r["from_step"], r["command"], tuple(r["data"]), tuple(r["licences"])) for r in records]


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a model card says beside the phases of its run and its accuracy."""

    name: str
    description: str
    parameters: int
    gmacs: float
    gmacs_size: tuple[int, int]  # height, width
    steps: int
    hours: float
    machine: str
    seed: int


def render_card(
    facts: CardFacts, phases: Sequence[Phase], reports: Sequence[tuple[str, StillsReport]]
) -> str:
    """The card as Markdown."""
    height, width = facts.gmacs_size
    licences = sorted({licence for phase in phases for licence in phase.licences})
    lines = [
        f"# {facts.name}",
        "",
        f"{facts.description}. {facts.parameters / 1e6:.1f} M parameters, "
        f"{facts.gmacs:.2f} GMAC for a frame of {width}x{height} pixels. Weights are stored as fp16.",
        "",
        "## Use",
        "",
        "A label for every pixel of a forward-looking road scene. Not for decisions that a person's safety "
        "hangs on: small and rare classes are missed often, see the table.",
        "",
        "## Data and licences",
        "",
        *(f"- {licence}" for licence in licences),
        "",
        "The weights were learned from data under these licences: mind them when you use the weights.",
        "",
        "## Accuracy",
        "",
        "Single frames, the averaged weights as they were written, fp32 arithmetic; mIoU over the classes "
        "that occur, from one confusion matrix, void ignored. Test splits were not used for any choice.",
        "",
        "| class | " + " | ".join(title for title, _ in reports) + " |",
        "|---|" + "---|" * len(reports),
        "| **mIoU** | " + " | ".join(f"**{report.miou:.4f}**" for _, report in reports) + " |",
    ]
    for name in reports[0][1].iou if reports else ():
        cells = (_cell(report.iou.get(name)) for _, report in reports)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "Frames: " + ", ".join(f"{title} {report.frames}" for title, report in reports) + "."]
    lines += [
        "",
        "## Training",
        "",
        f"{facts.steps} steps, {facts.hours:.1f} hours on {facts.machine}, seed {facts.seed}. "
        "One run, in these phases (a phase goes on from the state of the one before):",
        "",
    ]
    for phase in phases:
        lines += [
            f"From step {phase.from_step}, on {'; '.join(phase.data)}:",
            "",
            "```",
            phase.command,
            "```",
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
