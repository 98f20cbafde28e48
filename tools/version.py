"""Gives all distributions another version: ``make version VERSION=0.2.0``.

They are released together, so they have one number. Each says it in its package, where it can be read without
being installed, the Go client in ``version.go``; training, which reaches into the engine, also asks for its
siblings by it.
"""

from __future__ import annotations

import re
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NUMBER = r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?"
PACKAGE = re.compile(rf'(?m)^(__version__ = ")({NUMBER})(?=")')
SIBLING = re.compile(rf'("tilestream(?:-\w+)?==)({NUMBER})(?=")')
GO_CLIENT = re.compile(rf'(?m)^(const version = ")({NUMBER})(?=")')
PLACES = {
    "server/tilestream/__init__.py": PACKAGE,
    "client/python/tilestream_client/_version.py": PACKAGE,
    "street/tilestream_street/__init__.py": PACKAGE,
    "training/tilestream_training/__init__.py": PACKAGE,
    "training/pyproject.toml": SIBLING,
    "client/go/version.go": GO_CLIENT,
}
RELEASED = re.compile(rf"(?m)^## \[({NUMBER})\]")
UNRELEASED = "## [Unreleased]\n"


def versions(root: Path = ROOT) -> dict[str, set[str]]:
    """The versions that each place says; of the changelog the newest one, if anything was released yet."""
    found = {}
    for place, pattern in PLACES.items():
        found[place] = {version for _, version in pattern.findall((root / place).read_text())}
    if released := RELEASED.search((root / "CHANGELOG.md").read_text()):
        found["CHANGELOG.md"] = {released[1]}
    return found


def change(version: str, root: Path = ROOT) -> None:
    """Write ``version`` everywhere; what is unreleased in the changelog comes under it.

    Raises ValueError for what is no version.
    """
    if not re.fullmatch(NUMBER, version):
        raise ValueError(f"{version!r} is not a version such as 0.2.0 or 0.2.0rc1")
    for place, pattern in PLACES.items():
        path = root / place
        path.write_text(pattern.sub(rf"\g<1>{version}", path.read_text()))
    changelog = root / "CHANGELOG.md"
    text = changelog.read_text()
    if f"\n## [{version}]" not in text:
        heading = f"{UNRELEASED}\n## [{version}] - {date.today():%Y-%m-%d}\n"
        changelog.write_text(text.replace(UNRELEASED, heading, 1))


def main() -> int:
    """The exit status."""
    try:
        (version,) = sys.argv[1:] or [""]
        change(version)
    except ValueError as error:
        print(f"version: {error}", file=sys.stderr)
        return 1
    print(f"version: {version}; now `make setup`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
