"""`make go-test` where there is no Go, and what it finds to fuzz."""

from pathlib import Path

import pytest

from tools import go_test, go_toolchain


@pytest.fixture
def without_go(monkeypatch):
    def missing() -> Path:
        raise go_toolchain.MissingError("there is none")

    for name in go_test.REQUIRE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(go_toolchain, "find", missing)


def test_without_go_it_says_so_and_is_content(without_go, capsys):
    assert go_test.main() == 0
    assert "SKIPPED, the Go client was not tested: there is none" in capsys.readouterr().err


@pytest.mark.parametrize("name", go_test.REQUIRE)
def test_where_go_must_be_there_that_is_a_failure(without_go, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert go_test.main() == 1


def test_what_is_decoded_from_outside_is_fuzzed():
    found = {
        ("./internal/masks", "FuzzRLE"),
        ("./internal/masks", "FuzzPNG"),
        ("./internal/mjpeg", "FuzzSplitter"),
    }
    assert found <= set(go_test.fuzz_tests())
