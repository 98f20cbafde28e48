"""One command gives every distribution its version."""

import shutil

import pytest

from tools.version import PLACES, ROOT, UNRELEASED, change, versions


@pytest.fixture
def tree(tmp_path):
    """Copies of the files that tell the version, and a changelog."""
    for place in PLACES:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / place, tmp_path / place)
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n- Something new.\n")
    return tmp_path


def test_a_version_is_written_everywhere(tree):
    change("1.2.3rc4", tree)
    assert versions(tree) == {place: {"1.2.3rc4"} for place in (*PLACES, "CHANGELOG.md")}
    requirements = (tree / "training" / "pyproject.toml").read_text()
    assert '"tilestream==1.2.3rc4", "tilestream-street==1.2.3rc4"' in requirements
    change("1.3.0", tree)
    assert versions(tree) == {place: {"1.3.0"} for place in (*PLACES, "CHANGELOG.md")}


def test_what_was_unreleased_comes_under_the_version_once(tree):
    change("1.2.3", tree)
    change("1.2.3", tree)
    text = (tree / "CHANGELOG.md").read_text()
    assert text.count("## [1.2.3] - ") == text.count("## [Unreleased]\n") == 1
    assert text.index("## [Unreleased]") < text.index("## [1.2.3] - ") < text.index("Something new")


def test_the_changelog_has_a_place_for_what_is_unreleased():
    assert UNRELEASED in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("version", ["", "1", "1.2", "v1.2.3", "1.2.3-final"])
def test_what_is_no_version_changes_nothing(tree, version):
    before = versions(tree)
    with pytest.raises(ValueError, match="is not a version"):
        change(version, tree)
    assert versions(tree) == before
