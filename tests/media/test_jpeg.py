import functools

import numpy as np
import pytest
import simplejpeg
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.frames import encode, jpeg, photo
from tilestream.media import jpeg as module
from tilestream.media.errors import BadFrame
from tilestream.media.jpeg import (
    FrameLimits,
    bundled_decoder,
    decode_jpeg,
    decode_picture,
    fit_size,
    read_picture,
    system_decoder,
)
from tilestream.messages import InvalidReason

LIMITS = FrameLimits(max_bytes=1 << 20, max_pixels=640 * 480, max_side=1000)
SAMPLINGS = {"444": 0x111111, "422": 0x211111, "420": 0x221111, "440": 0x121111, "411": 0x411111}


def decode(data, compute_size=None, max_compute_pixels=10**9, limits=LIMITS):
    return decode_picture(read_picture(data, limits, compute_size, max_compute_pixels))


@pytest.fixture(params=["system", "bundled"])
def backend(request, monkeypatch):
    decoder = system_decoder() if request.param == "system" else bundled_decoder()
    if decoder is None:
        pytest.skip("the system has no libturbojpeg")
    monkeypatch.setattr(module, "_decode", decoder)
    return request.param


@functools.cache
def every_kind() -> dict[str, bytes]:
    image = photo(203, 117)
    kinds = {name: encode(image, sampling=sampling) for name, sampling in SAMPLINGS.items()}
    gray = np.ascontiguousarray(image[..., :1])
    return {
        **kinds,
        "progressive": encode(image, progressive=True),
        "coarse": encode(image, quality=5),
        "gray": simplejpeg.encode_jpeg(gray, colorspace="GRAY"),
    }


@pytest.mark.parametrize("kind", every_kind())
@pytest.mark.parametrize("denominator", [1, 2, 4, 8])
def test_same_pixels_from_both_libraries(kind, denominator):
    system = system_decoder()
    if system is None:
        pytest.skip("the system has no libturbojpeg")
    data = every_kind()[kind]
    first, second = system(data, 203, 117, denominator), bundled_decoder()(data, 203, 117, denominator)
    assert first.shape == second.shape == (-(-117 // denominator), -(-203 // denominator), 3)
    assert np.array_equal(first, second)


def test_pixels_are_rgb_in_order(backend):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32] = (255, 0, 0)  # OpenCV writes BGR: blue on the left
    decoded = decode(encode(image, 100, sampling=SAMPLINGS["444"])).pixels
    assert decoded.shape == (48, 64, 3) and decoded.dtype == np.uint8
    assert decoded[24, 10].tolist() == pytest.approx([0, 0, 255], abs=3)
    assert decoded[24, 50].tolist() == pytest.approx([0, 0, 0], abs=3)


def test_gray_becomes_rgb(backend):
    gray = np.full((30, 40, 1), 123, np.uint8)
    decoded = decode(simplejpeg.encode_jpeg(gray, colorspace="GRAY")).pixels
    assert decoded.shape == (30, 40, 3)
    assert np.all(decoded == 123)


def test_own_size_is_not_resampled(backend):
    data = encode(photo(320, 240))
    picture = decode(data)
    assert (picture.width, picture.height) == (320, 240)
    assert np.array_equal(picture.pixels, decode_jpeg(data, 320, 240))


@pytest.mark.parametrize("size", [(160, 120), (161, 119), (80, 60), (100, 40), (640, 480), (1, 1), (3, 500)])
def test_compute_size_is_met_exactly(backend, size):
    picture = decode(encode(photo(320, 240)), compute_size=size)
    assert picture.pixels.shape == (size[1], size[0], 3)
    assert (picture.width, picture.height) == (320, 240)


def test_scaled_decode_looks_like_the_frame(backend):
    image = np.repeat(np.repeat(photo(40, 30), 8, axis=0), 8, axis=1)
    data = encode(image, 98, sampling=SAMPLINGS["444"])
    small = decode(data, compute_size=(40, 30)).pixels[..., ::-1]
    assert np.abs(small.astype(int) - photo(40, 30)).mean() < 3


def test_large_frames_are_fitted(backend):
    picture = decode(encode(photo(640, 480)), max_compute_pixels=100_000)
    height, width = picture.pixels.shape[:2]
    assert width * height <= 100_000 and width % 8 == height % 8 == 0
    assert width / height == pytest.approx(640 / 480, rel=0.05)


@given(st.integers(1, 8192), st.integers(1, 8192), st.integers(64, 2_000_000))
@example(8192, 1, 64)
@example(1, 8192, 64)
def test_fit_size_keeps_the_limit(width, height, limit):
    fitted = fit_size(width, height, limit)
    assert fitted[0] >= 1 and fitted[1] >= 1
    if width * height <= limit:
        assert fitted == (width, height)
    else:
        assert fitted[0] * fitted[1] <= max(limit, max(fitted))
        assert fitted[0] <= width and fitted[1] <= height


def reason_of(data, **options) -> InvalidReason:
    with pytest.raises(BadFrame) as caught:
        decode(data, **options)
    return caught.value.failure.reason


def test_too_many_bytes():
    small = FrameLimits(100, 10**6, 1000)
    assert reason_of(jpeg(), limits=small) is InvalidReason.TOO_MANY_BYTES


def test_too_many_pixels_are_told_from_the_header():
    data = jpeg()
    at = data.index(b"\xff\xc0") + 5
    huge = data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :]  # 65535 x 65535: 12 GB if it were decoded
    assert reason_of(huge) is InvalidReason.TOO_MANY_PIXELS


def test_too_long_a_side():
    assert reason_of(jpeg(width=1001, height=8)) is InvalidReason.TOO_MANY_PIXELS


def test_cut_data_with_an_end_marker_is_truncated(backend):
    data = encode(photo(320, 240))
    assert reason_of(data[:-800] + b"\xff\xd9") is InvalidReason.TRUNCATED


@pytest.mark.parametrize("progressive", [False, True])
def test_every_cut_is_answered_unless_nothing_is_missing(backend, progressive):
    data = encode(photo(64, 48), progressive=progressive)
    whole = decode(data).pixels
    for length in range(len(data) - 2):
        try:
            pixels = decode(data[:length]).pixels
        except BadFrame:
            continue
        assert length > len(data) - 5 and np.array_equal(pixels, whole), "bits that fill the last byte up"
    assert np.array_equal(decode(data[:-2]).pixels, whole)
    assert np.array_equal(decode(data[:-1]).pixels, whole)


def test_damaged_data_is_corrupt(backend):
    data = bytearray(encode(photo(320, 240)))
    middle = len(data) // 2
    data[middle : middle + 400] = b"\x55\xaa" * 200
    assert reason_of(bytes(data)) is InvalidReason.CORRUPT


@st.composite
def mutated_jpegs(draw):
    kinds = list(every_kind().values())
    data = bytearray(draw(st.sampled_from(kinds)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, min(len(data) - 1, draw(st.sampled_from([20, 700, 10**6]))))))
        action = draw(st.sampled_from(["set", "insert", "delete", "cut", "marker"]))
        if action == "set":
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=4))
        elif action == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=40))
        elif action == "delete":
            del data[at : at + draw(st.integers(1, 200))]
        elif action == "cut":
            del data[at:]
        else:
            data[at : at + 2] = bytes([0xFF, draw(st.integers(0xC0, 0xFE))])
        if not data:
            break
    return bytes(data)


@given(mutated_jpegs(), st.sampled_from([None, (64, 48), (300, 20)]))
@settings(max_examples=250)
def test_fuzz_a_frame_is_decoded_or_bad(data, compute_size):
    for decoder in (system_decoder(), bundled_decoder()):
        if decoder is None:
            continue
        module_decode, module._decode = module._decode, decoder
        try:
            picture = decode(data, compute_size)
        except BadFrame as bad:
            assert str(bad) == bad.failure.detail != ""
        else:
            assert picture.width * picture.height <= LIMITS.max_pixels
            wanted = compute_size or (picture.width, picture.height)
            assert picture.pixels.shape == (wanted[1], wanted[0], 3)
        finally:
            module._decode = module_decode
