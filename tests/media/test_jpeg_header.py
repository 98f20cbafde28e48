import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from support.frames import encode, jpeg, photo
from support.jpegs import separate_scans
from tilestream.media.errors import BadFrame
from tilestream.media.jpeg_header import read_header
from tilestream.media.jpeg_layout import Markers, read_layout
from tilestream.messages import InvalidReason


def reason_of(data: bytes) -> InvalidReason:
    with pytest.raises(BadFrame) as caught:
        read_header(data)
    assert str(caught.value) == caught.value.failure.detail != ""
    return caught.value.failure.reason


def with_byte(data: bytes, marker: int, offset: int, value: int) -> bytes:
    """Change a byte of the first segment with this marker, counted from its length."""
    at = data.index(bytes([0xFF, marker])) + 2 + offset
    return data[:at] + bytes([value]) + data[at + 1 :]


@pytest.mark.parametrize("progressive", [False, True])
def test_size_and_components(progressive):
    header = read_header(encode(photo(203, 117), progressive=progressive))
    assert (header.width, header.height, header.components) == (203, 117, 3)
    assert header.progressive is progressive


def test_gray_is_taken():
    gray = np.ascontiguousarray(photo(40, 30)[..., :1])
    assert read_header(simplejpeg.encode_jpeg(gray, colorspace="GRAY")).components == 1


def test_cmyk_is_not_taken():
    cmyk = np.ascontiguousarray(np.dstack([photo(40, 30), photo(40, 30)[..., :1]]))
    assert reason_of(simplejpeg.encode_jpeg(cmyk, colorspace="CMYK")) is InvalidReason.UNSUPPORTED


def test_empty():
    assert reason_of(b"") is InvalidReason.EMPTY


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n" + b"0" * 50, b"hello", b"\xff", b"\0" * 100])
def test_not_a_jpeg(data):
    assert reason_of(data) is InvalidReason.NOT_JPEG


def test_every_cut_of_the_header_is_truncated():
    data = jpeg()
    for length in range(2, data.index(b"\xff\xda") + 14):
        assert reason_of(data[:length]) is InvalidReason.TRUNCATED, length


def test_a_cut_between_scans_is_truncated_though_no_data_is_cut():
    data = encode(photo(64, 48), progressive=True)
    last = read_layout(data).between[-1]
    assert last.marker == 0xDA and read_header(data).complete
    tables = data.rindex(b"\xff\xc4", 0, last.begin)
    assert reason_of(data[:tables]) is InvalidReason.TRUNCATED
    shorter = read_header(data[:tables] + b"\xff\xd9")  # so its encoder wanted it
    assert not shorter.complete


def test_a_component_without_a_scan_is_truncated():
    whole = separate_scans(photo(64, 48))
    scans = [each for each in read_layout(whole).between if each.marker == 0xDA]
    assert read_header(whole).complete and len(scans) == 2
    for scan in scans:
        assert reason_of(whole[: scan.begin] + b"\xff\xd9") is InvalidReason.TRUNCATED


def test_padding_after_the_end_is_fine():
    assert read_header(jpeg() + b"\0" * 5000).width == 64


@pytest.mark.parametrize("kind", [0xC3, 0xC5, 0xC9, 0xCA, 0xCF])
def test_lossless_and_arithmetic_are_not_taken(kind):
    data = jpeg().replace(b"\xff\xc0", bytes([0xFF, kind]), 1)
    assert reason_of(data) is InvalidReason.UNSUPPORTED


def test_twelve_bits_are_not_taken():
    assert reason_of(with_byte(jpeg(), 0xC0, 2, 12)) is InvalidReason.UNSUPPORTED


def test_zero_size_is_corrupt():
    data = with_byte(with_byte(jpeg(height=48), 0xC0, 3, 0), 0xC0, 4, 0)
    assert reason_of(data) is InvalidReason.CORRUPT


def test_two_frame_headers_are_corrupt():
    data = jpeg()
    at = data.index(b"\xff\xc0")
    segment = data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
    assert reason_of(data[:at] + segment + data[at:]) is InvalidReason.CORRUPT


def test_scan_before_frame_header_is_corrupt():
    data = jpeg()
    at = data.index(b"\xff\xc0")
    length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    assert reason_of(data[:at] + data[at + length :]) is InvalidReason.CORRUPT


@pytest.mark.parametrize("progressive", [False, True])
def test_too_many_scans_are_too_costly(progressive):
    data = encode(photo(64, 48), progressive=progressive)
    scan = data.rindex(b"\xff\xda")
    length = 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")
    bomb = data[:-2] + data[scan : scan + length] * 64 + data[-2:]
    assert reason_of(bomb) is InvalidReason.TOO_COSTLY
    assert read_header(data + bomb).width == 64, "what follows the end is another picture"


def test_a_header_of_tiny_segments_is_too_costly():
    data = jpeg()
    assert reason_of(data[:2] + b"\xff\xfe\x00\x02" * 2000 + data[2:]) is InvalidReason.TOO_COSTLY
    assert reason_of(data[:2] + b"\xff\xd0" * 2000 + data[2:]) is InvalidReason.TOO_COSTLY
    assert reason_of(data[:-2] + b"\xff\xfe\x00\x02" * 2000 + data[-2:]) is InvalidReason.TOO_COSTLY
    assert read_header(data[:2] + b"\xff" * 100_000 + data[2:]).width == 64  # fill bytes are no segments


def test_the_time_of_decoding_is_told_from_size_bytes_and_scans():
    sizes = [read_header(encode(photo(side, side))).seconds for side in (64, 128, 256)]
    assert sizes[1] > 3 * sizes[0] and sizes[2] > 3 * sizes[1]
    kinds = [read_header(encode(photo(256, 256), progressive=each)).seconds for each in (False, True)]
    assert kinds[1] > 1.5 * kinds[0]
    assert read_header(encode(photo(256, 256), quality=100)).seconds > 1.5 * kinds[0]


@pytest.mark.parametrize("progressive", [False, True])
def test_the_dearest_sensible_frame_is_taken(progressive):
    data = encode(photo(3840, 2160), 90, progressive, sampling=0x111111)
    assert read_header(data).seconds < 0.3


@given(
    st.lists(st.sampled_from([0x00, 0xD0, 0xD9, 0xDA, 0xFE, 0xFF]), max_size=60).map(bytes),
    st.integers(0, 60),
)
def test_markers_are_all_that_follow_ff_and_are_not_zero(data, begin):
    markers = Markers.of(data, min(begin, len(data)))
    places = [at for at in range(begin, len(data) - 1) if data[at] == 0xFF and data[at + 1]]
    assert (markers.places + markers.begin).tolist() == places
    assert markers.codes.tolist() == [data[at + 1] for at in places]
