"""Which JPEGs a device may decode: those of which no decoder makes anything else than libjpeg-turbo does."""

import cv2
import numpy as np
import pytest
import simplejpeg

from support.frames import encode, photo
from tilestream.media import jpeg_plain
from tilestream.media.jpeg_header import read_header

SAMPLINGS = {"444": 0x111111, "422": 0x211111, "420": 0x221111, "440": 0x121111, "411": 0x411111}
SOF, SOS, APP0 = b"\xff\xc0", b"\xff\xda", b"\xff\xe0"


def is_plain(data: bytes) -> bool:
    return jpeg_plain.is_plain(read_header(data))


def restarting(interval: int = 4) -> bytes:
    """203 x 117 at 420: 13 x 8 units, so that there are 25 restart markers."""
    ok, data = cv2.imencode(".jpg", photo(203, 117), [cv2.IMWRITE_JPEG_RST_INTERVAL, interval])
    assert ok
    return data.tobytes()


def changed(data: bytes, marker: bytes, offset: int, value: int) -> bytes:
    """Change a byte of the first segment with this marker, counted from its length."""
    at = data.index(marker) + 2 + offset
    return data[:at] + bytes([value]) + data[at + 1 :]


def rgb(marker: bytes) -> bytes:
    """A JPEG whose components are red, green and blue, as its ``marker`` segment says, without JFIF's."""
    data = encode(photo(64, 48), sampling=SAMPLINGS["444"])
    jfif = data.index(APP0)
    return data[:jfif] + marker + data[jfif + 2 + int.from_bytes(data[jfif + 2 : jfif + 4], "big") :]


def adobe(transform: int) -> bytes:
    return b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("size", [(203, 117), (64, 48), (1, 1), (17, 500)])
def test_what_cameras_send_is_plain(sampling, size):
    assert is_plain(encode(photo(*size), sampling=SAMPLINGS[sampling]))


@pytest.mark.parametrize("interval", [1, 4, 13, 1000])
def test_restart_markers_are_plain(interval):
    assert is_plain(restarting(interval))


def test_gray_and_padding_are_plain():
    gray = np.ascontiguousarray(photo(40, 30)[..., :1])
    assert is_plain(simplejpeg.encode_jpeg(gray, colorspace="GRAY"))
    assert is_plain(encode(photo(40, 30)) + b"\0" * 500)
    assert is_plain(encode(photo(40, 30)) + b"\xff\xd8 a second one \xff\xd9")


def test_other_kinds_are_not():
    assert not is_plain(encode(photo(64, 48), progressive=True))
    assert not is_plain(changed(encode(photo(64, 48)), SOF, -1, 0xC1))


def test_other_colours_are_not():
    assert is_plain(rgb(b"")) and is_plain(rgb(adobe(1)))
    assert not is_plain(rgb(adobe(0)))
    letters = rgb(b"")
    for component, letter in enumerate(b"RGB"):
        letters = changed(letters, SOF, 8 + 3 * component, letter)
    assert not is_plain(letters)


def test_rare_samplings_are_not():
    data = encode(photo(64, 48), sampling=SAMPLINGS["420"])
    assert not is_plain(changed(data, SOF, 9, 0x14)) and not is_plain(changed(data, SOF, 12, 0x21))


def test_several_scans_are_not():
    data = encode(photo(64, 48))
    scan = data.index(SOS)
    assert not is_plain(changed(data, SOS, 2, 1)), "the first scan has one of three components"
    assert not is_plain(data[:-2] + data[scan:])


def test_what_a_cut_leaves_is_not():
    data = restarting()
    third, fourth = data.index(b"\xff\xd2"), data.index(b"\xff\xd3")
    for damaged in (data[:third] + b"\xff\xd9", data[:third] + data[fourth:], data[:fourth] + data[third:]):
        assert not is_plain(damaged)


def test_less_data_than_any_picture_of_that_size_has_is_not():
    data = encode(photo(320, 240))
    scan = data.index(SOS) + 14
    assert not is_plain(data[: scan + 100] + b"\xff\xd9")
