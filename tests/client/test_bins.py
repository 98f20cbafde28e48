"""The account of the bins, and its picture: what was computed where lands on the right pixels."""

from __future__ import annotations

import numpy as np
import pytest

from tilestream_client import Client, ProtocolError, overlay
from tilestream_client.bins import Bins, from_proto
from tilestream_client.v1 import segmentation_pb2 as pb

GRAY = 100


def account(units, *, size: tuple[int, int] | None = None) -> Bins:
    """Bins of 32 pixels and 4 block units; unless told, of an image that they cover exactly."""
    units = np.array(units, np.uint32)
    size = size or (32 * units.shape[1], 32 * units.shape[0])
    return Bins(32, units, np.zeros(units.shape, np.float32), np.zeros_like(units), 4, size)


def gray(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), GRAY, np.uint8)


def colourful(drawn: np.ndarray) -> np.ndarray:
    """bool [H, W]: where a gray picture got a tint (dark borders are nearly gray)."""
    return np.ptp(drawn.astype(int), axis=2) > 20


def middle(drawn: np.ndarray, row: int, column: int, side: int = 32) -> np.ndarray:
    """int [3]: the colour in the middle of a bin of so many pixels."""
    return drawn[row * side + side // 2, column * side + side // 2].astype(int)


def test_depth_is_the_share_of_the_units():
    assert account([[0, 1], [2, 4]]).depth.tolist() == [[0, 0.25], [0.5, 1]]
    assert account([[0, 2]]).depth.tolist() == [[0, 0.5]]
    assert account([[3]]).depth.dtype == np.float32


def test_computed_bins_are_tinted_and_dropped_ones_are_not():
    drawn = overlay.draw_bins(gray(96, 64), account([[0, 4, 0], [1, 0, 0]]))
    rows, columns = np.mgrid[:64, :96]
    border = (rows % 32 == 0) | (columns % 32 == 0)
    computed = ((rows < 32) & (columns // 32 == 1)) | ((rows >= 32) & (columns < 32))
    np.testing.assert_array_equal(colourful(drawn), computed & ~border)
    assert 0.5 * GRAY < middle(drawn, 0, 0)[0] < GRAY  # slightly dimmed


def test_the_deeper_the_stronger():
    picture, units = gray(160, 32), [[0, 1, 2, 3, 4]]
    drawn = overlay.draw_bins(picture, account(units))
    distances = [np.abs(middle(drawn, 0, column) - GRAY).sum() for column in range(1, 5)]
    reddish = [middle(drawn, 0, column)[0] - middle(drawn, 0, column)[1] for column in range(5)]
    assert distances == sorted(set(distances)) and reddish == sorted(set(reddish))


def test_labels_stay_visible_below_the_tint():
    blue = np.full((32, 64, 3), (0, 0, 250), np.uint8)
    drawn = overlay.draw_bins(blue, account([[0, 4]]))
    dropped, computed = middle(drawn, 0, 0), middle(drawn, 0, 1)
    assert dropped[0] == 0 and 100 < dropped[2] < 250
    assert computed[0] > 50 and computed[2] > 50 + computed[0]


def test_a_frame_computed_in_full_is_framed_only():
    drawn = overlay.draw_bins(gray(96, 64), account([[4, 4, 4], [4, 4, 4]]))
    assert (middle(drawn, 0, 0) == GRAY).all() and colourful(drawn).any()


def test_the_picture_given_stays_as_it_is():
    picture = gray(64, 64)
    drawn = overlay.draw_bins(picture, account([[4, 4], [4, 0]]))
    assert (picture == GRAY).all() and drawn.shape == picture.shape and drawn.dtype == np.uint8


def last_bin(width: int, height: int, bins: Bins) -> tuple[slice, slice]:
    """The pixels of the tinted bottom right bin: rows, columns."""
    tinted = np.argwhere(colourful(overlay.draw_bins(gray(width, height), bins)))
    (top, left), (bottom, right) = tinted.min(axis=0), tinted.max(axis=0) + 1
    return slice(top, bottom), slice(left, right)


@pytest.mark.parametrize(
    ("picture", "size", "left", "top"),
    [
        ((100, 70), (100, 70), 96, 64),  # not a multiple of the bins
        ((128, 96), (128, 96), 96, 64),
        ((200, 140), (100, 70), 192, 128),  # computed at half the picture's size
        ((50, 35), (100, 70), 48, 32),  # and at twice
        ((97, 140), (128, 70), 73, 128),  # of another shape
    ],
)
def test_the_grid_lands_on_the_right_pixels(picture, size, left, top):
    units = np.zeros((3, 4), np.uint32)
    units[2, 3] = 4
    bins = account(units, size=size)
    rows, columns = last_bin(*picture, bins)
    # A bin that is large enough for borders begins with a dark one, which is not counted as tinted.
    bordered = min(picture[0] - left, picture[1] - top) >= 8
    assert (rows.start, rows.stop) == (top + bordered, picture[1])
    assert (columns.start, columns.stop) == (left + bordered, picture[0])
    x, y = bins.edges(*picture)
    assert (x[0], x[3], x[-1]) == (0, left, picture[0]) and (y[0], y[2], y[-1]) == (0, top, picture[1])


def test_pictures_smaller_than_their_grid_can_be_drawn():
    bins = account(np.full((9, 12), 4), size=(384, 288))
    assert overlay.draw_bins(gray(5, 3), bins).shape == (3, 5, 3)


def message(**changes) -> pb.BinAccount:
    whole = {"bin_size": 32, "rows": 2, "columns": 3, "width": 65, "height": 64, "units_per_bin": 5}
    lists = {"units_computed": range(6), "distortion": [0.5] * 6, "age": [0] * 6}
    return pb.BinAccount(**{**whole, **lists, **changes})


def test_an_account_comes_whole_from_its_message():
    bins = from_proto(message())
    assert (bins.bin_size, bins.size, bins.units_per_bin) == (32, (65, 64), 5)
    assert bins.units_computed.tolist() == [[0, 1, 2], [3, 4, 5]] and not bins.age.any()
    assert bins.depth[1].tolist() == pytest.approx([0.6, 0.8, 1]) and bins.distortion[1, 2] == 0.5


@pytest.mark.parametrize(("width", "height"), [(65, 33), (96, 64), (66, 63)])
def test_every_image_that_the_grid_covers_is_taken(width, height):
    assert from_proto(message(width=width, height=height)).size == (width, height)


@pytest.mark.parametrize(
    "changes",
    [
        {"bin_size": 0},
        {"rows": 0},
        {"rows": 0, "height": 0, "units_computed": [], "distortion": [], "age": []},
        {"columns": 0, "width": 0, "units_computed": [], "distortion": [], "age": []},
        {"bin_size": 0, "width": 0, "height": 0},
        {"columns": 4},
        {"width": 0},
        {"width": 64},  # two columns would do
        {"width": 97},  # three do not reach
        {"height": 0},
        {"height": 32},
        {"height": 65},
        {"units_per_bin": 0},
        {"units_per_bin": 0, "units_computed": [0] * 6},
        {"units_per_bin": 4},  # a bin computed five
        {"units_computed": [1]},
        {"distortion": [0.5] * 7},
        {"age": []},
    ],
)
def test_an_account_that_makes_no_sense(changes):
    with pytest.raises(ProtocolError):
        from_proto(message(**changes))


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, (190, 120)),
        ({"output_size": (60, 60)}, (190, 120)),  # the mask's size says nothing about the computed one
        ({"compute_size": (150, 100)}, (150, 100)),
    ],
)
def test_results_know_the_computed_size_and_draw_their_bins(serve, options, size):
    frame = gray(190, 120)
    with Client(serve().target) as client:
        (result,) = client.stream([frame], include_bins=True, **options)
    assert result.bins.size == size and result.bins.units_per_bin == 5
    np.testing.assert_array_equal(
        result.overlay(show_bins=True), overlay.draw_bins(result.overlay(), result.bins)
    )


def test_results_without_an_account_say_so(serve):
    with Client(serve().target) as client:
        (result,) = client.stream([gray(64, 64)])
    with pytest.raises(ValueError, match="include_bins"):
        result.overlay(show_bins=True)


@pytest.mark.parametrize("width", [40, 200, 480, 1280])
def test_the_line_about_the_bins_explains_the_tints_where_there_is_room(width):
    text = "partial frame · block drop rate 71% · mean distortion 1.23 luma steps"
    line = overlay.bins_line(text, width)
    assert line.shape == overlay.text_line(text, width).shape
    assert colourful(line).any() == (width == 1280)
