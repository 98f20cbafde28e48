"""The campaign of mutated access units, shorter."""

import pytest

from fuzz.jpegs import run
from fuzz.units import decode_all
from support.video import need_encoder


def check(report, units):
    need_encoder("h264")
    need_encoder("h265")
    assert not report.wrong, report.wrong[:5]
    assert report.sound, report
    assert report.frames == units == sum(report.outcomes.values())
    assert report.outcomes["ok"] > units / 4
    assert {"corrupt", "no_key_unit", "not_jpeg", "empty"} <= set(report.outcomes)


def test_mutated_units_are_decoded_or_refused():
    check(run(4000, 1, decode_all), 4000)


@pytest.mark.long
def test_many_mutated_units_are_decoded_or_refused():
    check(run(200_000, 2, decode_all), 200_000)
