"""What can be told of the documentation without running it: links lead somewhere, lines are short."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
WRITTEN += [ROOT / "client" / "python" / "README.md", ROOT / "client" / "go" / "README.md"]
MADE = ("bench", "client", "server", "street", "training")  # folders with more pages, some made by programs
FOUND = {page for folder in MADE for page in (ROOT / folder).rglob("*.md") if "build" not in page.parts}
ALL = sorted({*WRITTEN, *FOUND})
MOST_LINES = {"README.md": 80, "docs/architecture.md": 100}
COLUMNS = 120

FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
TARGET = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """What a heading is called in a link, as GitHub makes it."""
    headings = HEADING.findall(FENCED.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ALL, ids=name)
def test_links_lead_somewhere(page):
    text = CODE.sub("", FENCED.sub("", page.read_text(encoding="utf-8")))
    for target in TARGET.findall(text):
        if re.match(r"[a-z]+:", target):
            continue  # another server's
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target}: no such file"
        assert not anchor or anchor in anchors(file), f"{target}: no such heading"


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_lines_are_short(page):
    """Tables cannot be wrapped, nor can what a link leads to."""
    lines = page.read_text(encoding="utf-8").splitlines()
    long = [line for line in lines if len(TARGET.sub("]", line)) > COLUMNS and not line.startswith("|")]
    assert not long


@pytest.mark.parametrize("page", MOST_LINES)
def test_pages_that_are_read_first_are_short(page):
    assert len((ROOT / page).read_text(encoding="utf-8").splitlines()) <= MOST_LINES[page]


def test_every_page_of_research_is_in_its_index():
    folder = ROOT / "docs" / "research"
    index = TARGET.findall((folder / "README.md").read_text(encoding="utf-8"))
    assert sorted(index) == sorted(page.name for page in folder.glob("*.md") if page.name != "README.md")
