"""The decoder of a session, unit by unit."""

import numpy as np
import pytest

from support.video import LIBAV_NAMES, STRUCTURES, AccessUnit, damaged, encode_clip, moving_images
from tilestream.media.jpeg import FrameLimits
from tilestream.media.video.annexb import START
from tilestream.media.video.decoder import Unit, VideoDecoder, Wanted
from tilestream.media.video.limits import UnitLimits
from tilestream.messages import Codec, Failure, Picture

CODECS = {"h264": Codec.H264, "h265": Codec.H265}
LIMITS = UnitLimits(FrameLimits(1 << 20, 1 << 20, 4096))


def decoded(units: list[AccessUnit], codec: str, limits: UnitLimits = LIMITS) -> dict[int, Picture | str]:
    """By what is shown when: its picture, or the reason that there is none. Every unit has one outcome."""
    decoder = VideoDecoder(CODECS[codec], limits, Wanted(None, 1 << 22))
    done = [each for unit in units for each in decoder.decode(Unit(unit.shown, unit.data, lambda: True))]
    done += decoder.flush()
    assert sorted(shown for shown, _ in done) == sorted(unit.shown for unit in units)
    return {shown: out.reason.value if isinstance(out, Failure) else out for shown, out in done}


def by_libav(units: list[AccessUnit], codec: str) -> dict[int, np.ndarray]:
    import av

    context = av.CodecContext.create(LIBAV_NAMES[codec], "r")
    frames = []
    for unit in units:
        packet = av.Packet(unit.data)
        packet.pts = unit.shown
        frames += context.decode(packet)
    frames += context.decode(None)
    return {frame.pts: frame.to_ndarray(format="rgb24") for frame in frames}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le"])
def test_pictures_are_those_of_libav(codec, structure, pixels):
    units = encode_clip(moving_images(30), codec, STRUCTURES[structure], pixels)
    wanted, found = by_libav(units, codec), decoded(units, codec)
    assert list(found) == list(wanted) == list(range(30))  # also their order
    for shown, picture in found.items():
        assert np.array_equal(picture.pixels, wanted[shown])


@pytest.mark.parametrize("codec", CODECS)
def test_who_joins_in_an_open_gop_gets_what_does_not_refer_to_before(codec):
    units = encode_clip(moving_images(30), codec, STRUCTURES["open"])
    full = decoded(units, codec)
    begin = next(index for index, unit in enumerate(units) if unit.shown == 11)
    late = decoded(units[begin:], codec)
    leading = [shown for shown in late if shown < 11]
    assert leading and {late[shown] for shown in leading} == {"no_key_unit"}
    for shown in range(11, 30):
        assert np.array_equal(late[shown].pixels, full[shown].pixels)


def test_who_joins_an_intra_refresh_waits_until_it_is_through():
    units = encode_clip(moving_images(40), "h264", STRUCTURES["refresh"])
    full, late = decoded(units, "h264"), decoded(units[5:], "h264")
    whole = [shown for shown, picture in late.items() if isinstance(picture, Picture)]
    assert 15 <= whole[0] < 25 and whole == list(range(whole[0], 40))
    assert {late[shown] for shown in range(5, whole[0])} == {"no_key_unit"}
    for shown in whole:
        assert np.array_equal(late[shown].pixels, full[shown].pixels)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("structure", ["closed", "b-pictures"])
@pytest.mark.parametrize("lost", [1, 2, 5, 12, 13])
def test_no_picture_is_made_up_after_a_unit_was_lost(codec, structure, lost):
    units = encode_clip(moving_images(30), codec, STRUCTURES[structure])
    full = decoded(units, codec)
    for shown, picture in decoded(units[:lost] + units[lost + 1 :], codec).items():
        assert isinstance(picture, str) or np.array_equal(picture.pixels, full[shown].pixels)


@pytest.mark.parametrize("codec", CODECS)
def test_after_damage_pictures_are_right_again_from_the_next_key_unit_on(codec):
    units = encode_clip(moving_images(30), codec, f"{STRUCTURES['b-pictures']}:slices=1")
    full = decoded(units, codec)
    units[4] = AccessUnit(units[4].shown, units[4].data[: len(units[4].data) // 2])
    bad = decoded(units, codec)
    assert bad[units[4].shown] == "corrupt"
    for shown in range(10, 30):
        assert np.array_equal(bad[shown].pixels, full[shown].pixels)


def test_memory_for_pictures_is_bounded_with_those_that_are_held_back():
    units = encode_clip(moving_images(30), "h264", STRUCTURES["b-pictures"])
    picture = 192 * 144 * 1.5
    enough = UnitLimits(LIMITS.frame, round(picture * 16))
    assert "too_costly" not in decoded(units, "h264", enough).values()
    little = decoded(units, "h264", UnitLimits(LIMITS.frame, round(picture * 7)))
    assert {"too_costly", "no_key_unit"} == {each for each in little.values() if isinstance(each, str)}


@pytest.mark.parametrize("codec", CODECS)
def test_a_key_unit_without_parameter_sets_is_decoded_with_those_of_before(codec):
    """Though they came with a unit that was of no use."""
    units = encode_clip(moving_images(12), codec)
    key = units[10].data
    parts = [part.rstrip(b"\0") for part in key.split(START)[1:]]
    are_sets = [
        (part[0] >> 1 & 63 in (32, 33, 34)) if codec == "h265" else (part[0] & 31 in (7, 8)) for part in parts
    ]
    sets = b"".join(START + part for part, is_set in zip(parts, are_sets, strict=True) if is_set)
    bare = AccessUnit(
        10, b"".join(START + part for part, is_set in zip(parts, are_sets, strict=True) if not is_set)
    )
    found = decoded([AccessUnit(0, sets), bare, units[11]], codec)
    assert found[0] == "empty" and isinstance(found[10], Picture) and isinstance(found[11], Picture)
    assert decoded([bare, units[11]], codec) == {10: "no_key_unit", 11: "no_key_unit"}


def test_damage_costs_no_picture_before_it():
    units = encode_clip(moving_images(20), "h264", f"{STRUCTURES['closed']}:cabac=1")
    full = decoded(units, "h264")
    units[13] = AccessUnit(13, damaged(units[13].data))
    for shown, picture in decoded(units, "h264").items():
        if shown < 13:
            assert np.array_equal(picture.pixels, full[shown].pixels)
