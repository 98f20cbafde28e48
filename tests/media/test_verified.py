"""Pictures that an engine will decode: damage that no marker tells of is found before, if that is wanted."""

import pytest

from support.frames import encode, photo
from tilestream.media.errors import BadFrame
from tilestream.media.jpeg import FrameLimits, decode_picture, picture_for
from tilestream.messages import Codec

LIMITS = FrameLimits(1 << 22, 1 << 22, 4096)


def damages(width, height):
    whole = encode(photo(width, height, 5))
    middle, few = len(whole) // 2, len(whole) // 8
    return {
        "bytes changed": whole[:middle] + b"\x55\xaa" * (few // 2) + whole[middle + few :],
        "bytes missing": whole[:middle] + whole[middle + few :],
        "cut": whole[:-few] + b"\xff\xd9",
        "cut in the middle": whole[:middle] + b"\xff\xd9",
    }


def picture(data, **options):
    return picture_for((Codec.JPEG,), data, LIMITS, None, 1 << 22, **options)


@pytest.mark.parametrize("size", [(320, 240), (50, 70)])
@pytest.mark.parametrize("damage", damages(64, 64))
def test_what_the_host_would_not_decode_does_not_reach_the_engine(damage, size):
    data = damages(*size)[damage]
    passed = picture(data, verify=False)
    assert passed.data == data and passed.pixels is None, "else this tests nothing"
    with pytest.raises(BadFrame) as wanted:
        decode_picture(passed)
    with pytest.raises(BadFrame) as found:
        picture(data)
    assert found.value.failure == wanted.value.failure


@pytest.mark.parametrize("size", [(320, 240), (50, 70), (17, 9)])
def test_good_pictures_go_on_as_they_came(size):
    data = encode(photo(*size))
    found = picture(data)
    assert found.data == data and found.pixels is None and (found.width, found.height) == size
