"""The campaigns of this folder, shorter."""

import pytest

from fuzz.jpegs import run


def check(report, frames):
    assert not report.wrong, report.wrong[:5]
    assert report.sound, report
    assert report.frames == frames == sum(report.outcomes.values())
    assert report.outcomes["ok"] > frames / 10
    assert {"truncated", "corrupt", "not_jpeg", "too_costly", "unsupported"} <= set(report.outcomes)


def test_mutated_jpegs_are_decoded_as_elsewhere_or_refused():
    check(run(2000, seed=1), 2000)


@pytest.mark.long
def test_many_mutated_jpegs_are_decoded_as_elsewhere_or_refused():
    check(run(100_000, seed=2), 100_000)
