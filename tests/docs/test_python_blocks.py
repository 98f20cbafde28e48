"""Every Python block of the documentation runs, with a few names and files that pages take for granted."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.frames import photo
from support.networks import write_weights
from support.one_thread import one_thread  # noqa: F401
from support.processes import served
from support.video import write_clip

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "client" / "python" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

WIDTH, HEIGHT = 128, 96
NAMES = {
    "frame": photo(WIDTH, HEIGHT),
    "video": [photo(WIDTH, HEIGHT, seed) for seed in range(3)],
    "mask": np.array([[True, False], [False, True]]),  # the bins of such a frame
}
CLIPS = ("dashcam.mp4", "drive.mp4")
ADDRESS = "localhost:50051"


def blocks() -> list:
    """Page, line above the block, and its source."""
    return [
        pytest.param(page, line, source, id=f"{page.relative_to(ROOT)}:{line + 1}")
        for page in PAGES
        for line, source in found(page.read_text(encoding="utf-8"))
    ]


def found(text: str) -> Iterator[tuple[int, str]]:
    for block in BLOCK.finditer(text):
        yield text.count("\n", 0, block.start(1)), block[1]


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A folder with the clips that the pages name."""
    folder = tmp_path_factory.mktemp("clips")
    for name in CLIPS:
        write_clip(folder / name, NAMES["video"])
    return folder


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """A server of its own; what its network says does not matter."""
    folder = tmp_path_factory.mktemp("server")
    with served(folder, "--models", str(write_weights(folder / "random.safetensors"))) as (_, port):
        yield f"localhost:{port}"


@pytest.mark.parametrize(("page", "line", "source"), blocks())
def test_it_runs(page, line, source, clips, request, monkeypatch):
    if ADDRESS in source:
        source = source.replace(ADDRESS, request.getfixturevalue("address"))
    monkeypatch.chdir(clips)
    # so that a failure shows the line of the page
    exec(compile("\n" * line + source, str(page), "exec"), {"__name__": "__main__", **NAMES})


def test_the_blocks_are_found():
    assert list(found("a\n```python\nx = 1\n```\n```\ny\n```\n```python\nz = 2\n```\n")) == [
        (2, "x = 1\n"),
        (8, "z = 2\n"),
    ]
    assert any(page.values[0].name == "README.md" for page in blocks())
