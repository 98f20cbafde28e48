"""Each of libjpeg's warnings: a picture that makes it give that one, and whether that is damage here."""

import re

import cv2
import pytest
import simplejpeg

from support.frames import encode, photo
from support.jpegs import EOI, as_opencv, inserted, segment, with_byte, without_jfif
from tilestream.media.errors import BadFrame
from tilestream.media.jpeg import FrameLimits, bundled_decoder, decode_picture, read_picture, system_decoder
from tilestream.media.jpeg_damage import WARNINGS
from tilestream.media.jpeg_layout import read_layout

SIZE = 203, 117
LIMITS = FrameLimits(1 << 20, 1 << 20, 4096)
PLAIN = encode(photo(*SIZE))


def restarting() -> bytes:
    ok, data = cv2.imencode(".jpg", photo(*SIZE), [cv2.IMWRITE_JPEG_RST_INTERVAL, 4])
    assert ok
    return data.tobytes()


def without_a_scan(number: int) -> bytes:
    """A progressive picture that lacks one of its later scans."""
    data = encode(photo(*SIZE), progressive=True)
    scans = [each for each in read_layout(data).between if each.marker == 0xDA]
    end = read_layout(data).between[read_layout(data).between.index(scans[number]) + 1].begin
    return data[: scans[number].begin] + data[end:]


WITH = {
    "JWRN_HIT_MARKER": PLAIN[:-500] + EOI,
    "JWRN_JPEG_EOF": PLAIN[:-2],
    "JWRN_HUFF_BAD_CODE": PLAIN[:-300] + b"\xff\x00" * 20 + PLAIN[-260:],
    "JWRN_MUST_RESYNC": restarting().replace(b"\xff\xd3", b"\xff\xd6", 1),
    "JWRN_BOGUS_PROGRESSION": without_a_scan(3),
    "JWRN_EXTRANEOUS_DATA": PLAIN[:-2] + b"\x55" * 100 + EOI,
    "JWRN_NOT_SEQUENTIAL": with_byte(PLAIN, 0xDA, -2, 0),
    "JWRN_JFIF_MAJOR": with_byte(PLAIN, 0xE0, 7, 2),
    "JWRN_ADOBE_XFORM": inserted(
        without_jfif(PLAIN), 0xDB, segment(0xEE, b"Adobe\x00\x64\x00\x00\x00\x00\x05")
    ),
    "JWRN_BOGUS_ICC": inserted(PLAIN, 0xDB, segment(0xE2, b"ICC_PROFILE\0\2\5" + bytes(40))),
}
TAKEN_ALL_THE_SAME = {"JWRN_JPEG_EOF"}  # where every block is there; the end marker is put back


def warning(data: bytes) -> str:
    with pytest.raises(ValueError) as caught:
        simplejpeg.decode_jpeg(data, "RGB", strict=True)
    return str(caught.value).lower()


def test_the_list_is_all_that_libjpeg_warns_of():
    assert set(WITH) == {each.name for each in WARNINGS}


@pytest.mark.parametrize("listed", WARNINGS, ids=[each.name for each in WARNINGS])
def test_libjpeg_words_it_so(listed):
    assert listed.text in warning(WITH[listed.name])


@pytest.mark.parametrize("decoder", [system_decoder(), bundled_decoder()], ids=["system", "bundled"])
@pytest.mark.parametrize("listed", WARNINGS, ids=[each.name for each in WARNINGS])
def test_damage_is_refused_and_the_rest_is_decoded(monkeypatch, listed, decoder):
    if decoder is None:
        pytest.skip("the system has no libturbojpeg")
    monkeypatch.setattr("tilestream.media.jpeg._decode", decoder)
    data = WITH[listed.name]
    if listed.damage is None or listed.name in TAKEN_ALL_THE_SAME:
        pixels = decode_picture(read_picture(data, LIMITS, None, 1 << 20)).pixels
        assert (pixels == as_opencv(data if listed.damage is None else PLAIN)).all()
        return
    with pytest.raises(BadFrame) as bad:
        decode_picture(read_picture(data, LIMITS, None, 1 << 20))
    assert bad.value.failure.reason is listed.damage
    assert re.search(r"damaged: .+", str(bad.value))
