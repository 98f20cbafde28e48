"""Packages of others, as pip leaves them: a module, and what its distribution says of it."""

from pathlib import Path

import pytest


def install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, source: str, **groups: dict[str, str]
):
    """Put a distribution called like its ``module`` into ``folder``, which can then be imported from.

    ``groups``: entry points by name, per group; a group's name is written with _ for its dots.
    """
    (folder / f"{module}.py").write_text(source)
    facts = folder / f"{module}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = []
    for group, entries in groups.items():
        lines += [f"[{group.replace('_', '.')}]", *(f"{name} = {value}" for name, value in entries.items())]
    (facts / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(folder)
