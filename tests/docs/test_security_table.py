"""Every line of the table of threats names a test that is there, and settings that exist."""

import re
from pathlib import Path

import pytest

from tilestream.access.policy import Policy
from tilestream.config import Settings

DOCS = Path(__file__).resolve().parents[2] / "docs"
LINES = re.findall(r"^\| (?!threat)(\w.*) \|$", (DOCS / "security.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("line", LINES)
def test_a_threat_has_a_test_and_settings(line):
    threat, bound, setting, test = line.split(" | ")
    ((name, file),) = re.findall(r"^\[(\w+)\]\((.+)\)$", test)
    assert f"def {name}(" in (DOCS / file).read_text()
    known = {*Settings.model_fields, *Policy.model_fields}
    assert threat and bound and set(re.findall(r"`(\w+)`", setting)) <= known
