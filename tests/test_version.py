"""One version number for all distributions; RELEASE.md says where it is written."""

import re
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("tilestream", "tilestream_client", "tilestream_street", "tilestream_training")


def test_all_distributions_have_the_same_version():
    versions = {name: import_module(name).__version__ for name in PACKAGES}
    assert len(set(versions.values())) == 1, versions


def test_what_they_pin_of_each_other_is_that_version():
    version = import_module(PACKAGES[0]).__version__
    files = [*ROOT.glob("*/pyproject.toml"), *ROOT.glob("*/*/pyproject.toml")]
    assert files
    for file in files:
        assert set(re.findall(r'"tilestream[\w-]*==([^"]+)"', file.read_text())) <= {version}, file
