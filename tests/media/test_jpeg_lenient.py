"""What changes no pixel is no damage: such frames are decoded as OpenCV and Pillow do, damaged ones are not.

Every kind is sent whole, and once more with damaged data: the first of libjpeg's warnings must not hide it.
"""

import numpy as np
import pytest

from support.frames import encode, photo
from support.jpegs import (
    EOI,
    SOI,
    as_opencv,
    as_pillow,
    inserted,
    place,
    segment,
    separate_scans,
    with_byte,
    without_jfif,
)
from tilestream.media import jpeg as module
from tilestream.media.errors import BadFrame
from tilestream.media.jpeg import FrameLimits, bundled_decoder, decode_jpeg, picture_for, system_decoder
from tilestream.media.jpeg_header import read_header
from tilestream.media.jpeg_plain import is_plain
from tilestream.messages import Codec, InvalidReason

SIZE = WIDTH, HEIGHT = 203, 117
LIMITS = FrameLimits(1 << 20, 1 << 20, 4096)
SOF0, SOF2, DHT, DQT, SOS, APP0, APP1, APP2, APP14, COM = (
    0xC0,
    0xC2,
    0xC4,
    0xDB,
    0xDA,
    0xE0,
    0xE1,
    0xE2,
    0xEE,
    0xFE,
)
MULTIPART = b"\r\n--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 7044\r\n\r\n"
PLAIN = encode(photo(*SIZE))
PROGRESSIVE = encode(photo(*SIZE), progressive=True)
ANOTHER = encode(photo(64, 48, 3), progressive=True)
EXIF = segment(APP1, b"Exif\0\0" + ANOTHER)
ADOBE = b"Adobe\x00\x64\x00\x00\x00\x00"
JFIF = segment(APP0, b"JFIF\0\1\1\0\0\1\0\1\0\0")


def without_tables(data: bytes) -> bytes:
    """As motion JPEGs are: with the usual Huffman tables, which are not sent."""
    while DHT in data[: place(data, SOS).start] and bytes([0xFF, DHT]) in data:
        at = place(data, DHT)
        data = data[: at.start] + data[at.stop :]
    return data


KINDS = {
    "two start markers": SOI + PLAIN,
    "start markers with fill and a comment between": SOI + b"\xff\xff" + segment(COM, b"x") + PLAIN,
    "start markers with zeros between": SOI + bytes(6) + PLAIN,
    "line ends in front": b"\r\n\r\n" + PLAIN,
    "zeros in front": bytes(64) + PLAIN,
    "a multipart header in front": MULTIPART + PLAIN,
    "a multipart header and two start markers": MULTIPART + SOI + PLAIN,
    "a multipart boundary behind": PLAIN + b"\r\n--frame--\r\n",
    "a second picture behind": PLAIN + PLAIN,
    "many scans behind": PLAIN + PROGRESSIVE * 10,
    "a film behind": PLAIN + b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 40,
    "a progressive one behind a progressive one": PROGRESSIVE + ANOTHER,
    "no end marker": PLAIN[:-2],
    "half an end marker": PLAIN[:-1],
    "no end marker, progressive": PROGRESSIVE[:-2],
    "no end marker, another picture": PLAIN[:-2] + ANOTHER,
    "no end marker but zeros": PLAIN[:-2] + bytes(500),
    "zeros in front of the end marker": PLAIN[:-2] + bytes(500) + EOI,
    "few zeros in front of the end marker": PLAIN[:-2] + bytes(9) + EOI,
    "fill bytes in front of the end marker": PLAIN[:-2] + b"\xff" * 500 + EOI,
    "zeros between segments": inserted(PLAIN, DQT, bytes(608)),
    "zeros in front of a comment": inserted(PLAIN, SOF0, bytes(608) + segment(COM, b"made by nobody")),
    "zeros between segments, progressive": inserted(PROGRESSIVE, SOF2, bytes(608)),
    "an escaped FF between segments": inserted(PLAIN, DQT, b"\xff\x00"),
    "fill bytes between segments": inserted(PLAIN, DQT, b"\xff" * 99),
    "text between segments": inserted(PLAIN, DQT, b"MAKERNOTE 1.2"),
    "a restart marker in the header": inserted(PLAIN, DQT, b"\xff\xd3"),
    "spectral selection of nothing": with_byte(with_byte(PLAIN, SOS, -2, 0), SOS, -3, 0),
    "spectral selection from 1": with_byte(PLAIN, SOS, -3, 1),
    "approximation 0x11": with_byte(PLAIN, SOS, -1, 0x11),
    "spectral selection of nothing, separate scans": separate_scans(photo(*SIZE)).replace(
        b"\x00\x00\x3f\x00", b"\x00\x00\x00\x00"
    ),
    "separate scans": separate_scans(photo(*SIZE)),
    "colours at a quarter of the rows": separate_scans(photo(*SIZE), 1, 4),
    "JFIF 0.02": with_byte(with_byte(PLAIN, APP0, 7, 0), APP0, 8, 2),
    "JFIF 2.01": with_byte(with_byte(PLAIN, APP0, 7, 2), APP0, 8, 1),
    "JFIF 0.02, progressive": with_byte(PROGRESSIVE, APP0, 7, 0),
    "Adobe's transform 2": inserted(without_jfif(PLAIN), DQT, segment(APP14, ADOBE + b"\2")),
    "Adobe's transform 9 with JFIF": inserted(PLAIN, DQT, segment(APP14, ADOBE + b"\x09")),
    "Adobe's transform 0": inserted(without_jfif(PLAIN), DQT, segment(APP14, ADOBE + b"\0")),
    "a broken colour profile": inserted(PLAIN, DQT, segment(APP2, b"ICC_PROFILE\0\7\3" + bytes(40))),
    "half a colour profile": inserted(PLAIN, DQT, segment(APP2, b"ICC_PROFILE\0\1\2" + bytes(40))),
    "Exif with a preview": inserted(without_jfif(PLAIN), DQT, EXIF),
    "an end marker in a comment": inserted(PLAIN, DQT, segment(COM, EOI + SOI + b"\xff\xda" * 90)),
    "two JFIF segments": inserted(PLAIN, DQT, JFIF),
    "a JFIF segment cut short": inserted(without_jfif(PLAIN), DQT, segment(APP0, b"JFIF\0\1")),
    "Adobe's segment cut short": inserted(PLAIN, DQT, segment(APP14, b"Adobe\0")),
    "no Huffman tables": without_tables(PLAIN),
    "all at once": MULTIPART
    + inserted(with_byte(with_byte(PLAIN[:-2], SOS, -2, 0), APP0, 7, 3), DQT, bytes(9)),
}
SEPARATE = separate_scans(photo(*SIZE))
STARTS = [each[place(each, SOS).stop :][:16] for each in (PLAIN, PROGRESSIVE, SEPARATE)]
HARD = {"two start markers", "no end marker", "half an end marker", "no end marker, progressive"}
HARD |= {"a JFIF segment cut short", "Adobe's segment cut short"}
"""Beside those with something in front: OpenCV and Pillow do not show them either, browsers do."""


@pytest.fixture(params=["system", "bundled"])
def backend(request, monkeypatch):
    decoder = system_decoder() if request.param == "system" else bundled_decoder()
    if decoder is None:
        pytest.skip("the system has no libturbojpeg")
    monkeypatch.setattr(module, "_decode", decoder)


def decoded(data: bytes) -> np.ndarray:
    return picture_for((), data, LIMITS, None, 1 << 22).pixels


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_decoded_as_opencv_and_pillow_do(backend, kind):
    data = KINDS[kind]
    pixels = decoded(data)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    seen = {reader.__name__: reader(data) for reader in (as_opencv, as_pillow)}
    if not data.startswith(SOI + b"\xff") or kind in HARD or "start markers" in kind or "no end" in kind:
        cleaned = read_header(data).data
        seen = {reader.__name__: reader(cleaned) for reader in (as_opencv, as_pillow)}
    for name, image in seen.items():
        assert image is not None and np.array_equal(image, pixels), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_gets_what_is_decoded_here_and_nothing_else(kind):
    picture = picture_for((Codec.JPEG,), KINDS[kind], LIMITS, None, 1 << 22)
    if picture.pixels is not None:
        return  # not plain: the host decodes it
    sent = bytes(picture.data)
    assert sent.startswith(SOI + b"\xff") and sent.endswith(EOI)
    header = read_header(sent)
    assert is_plain(header) and header.data is sent, "there is nothing left to clean"
    assert np.array_equal(decode_jpeg(sent, *SIZE), decoded(KINDS[kind]))


def test_some_of_them_go_to_the_device_and_some_do_not():
    plain = {kind for kind, data in KINDS.items() if is_plain(read_header(data))}
    assert {"two start markers", "JFIF 2.01", "spectral selection of nothing", "a film behind"} <= plain
    assert not plain & {kind for kind in KINDS if kind.startswith("no ") or "in front of the end" in kind}
    assert not plain & {"separate scans", "Adobe's transform 0", "no end marker, progressive"}


def test_usual_frames_are_passed_on_without_a_copy():
    for data in (PLAIN, PROGRESSIVE, separate_scans(photo(*SIZE))):
        assert read_header(data).data is data


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_not_hidden(backend, kind):
    """Whether decoded here or looked through for a device; a cut end shows even without looking through."""
    data = KINDS[kind]
    begin = next(data.index(start) for start in STARTS if start in data)
    changed = data[: begin + 1000] + b"\x55\xaa" * 200 + data[begin + 1400 :]
    cut = data[: begin + 2000]
    for damaged, verify in ((changed, True), (cut, True), (cut, False)):
        with pytest.raises(BadFrame) as bad:
            picture_for((Codec.JPEG,), damaged, LIMITS, None, 1 << 22, verify)
        assert bad.value.failure.reason in (InvalidReason.CORRUPT, InvalidReason.TRUNCATED)


def test_another_file_with_a_picture_within_is_no_jpeg():
    for front in (b"\x89PNG\r\n\x1a\n", b"GIF89a\x01", b"\0\0\0\x18ftypheic\xff", b"\xff\xd9", b"\x80"):
        with pytest.raises(BadFrame) as bad:
            read_header(front + PLAIN)
        assert bad.value.failure.reason is InvalidReason.NOT_JPEG
    with pytest.raises(BadFrame):
        read_header(b" " * 5000 + PLAIN)


def test_a_start_marker_behind_the_tables_is_damage():
    with pytest.raises(BadFrame) as bad:
        read_header(inserted(PLAIN, SOF0, SOI))
    assert bad.value.failure.reason is InvalidReason.CORRUPT


def test_scans_that_an_encoder_left_out_are_guessed_as_opencv_and_pillow_do(backend):
    """Releases of libjpeg-turbo smooth otherwise what lies behind them."""
    last = place(PROGRESSIVE, SOS, last=True).start
    shorter = PROGRESSIVE[: PROGRESSIVE.rindex(bytes([0xFF, DHT]), 0, last)] + EOI
    pixels = decoded(shorter)
    assert np.array_equal(pixels, as_opencv(shorter)) and np.array_equal(pixels, as_pillow(shorter))
    assert not np.array_equal(pixels, decoded(PROGRESSIVE))
