"""Clips: of the size asked for, played without a jump."""

import cv2
import numpy as np
import pytest

from bench.clips import decode, drawn_clip, folder_clip, parse_size, place_in_clip

SIZE = (64, 48)


def test_a_drawn_clip_moves():
    clip = drawn_clip(SIZE, frames=3)
    assert [decode(jpeg).shape for jpeg in clip] == [(48, 64, 3)] * 3 and len(set(clip)) == 3


def test_a_folder_is_read_in_order_and_scaled_only_where_it_has_to_be(tmp_path):
    clip = drawn_clip(SIZE, frames=2)
    for number, jpeg in enumerate(clip):
        (tmp_path / f"{number:04d}.jpg").write_bytes(jpeg)
    image = np.full((96, 128, 3), (10, 20, 200), np.uint8)  # BGR
    assert cv2.imwrite(str(tmp_path / "0002.jpg"), image)
    (tmp_path / "notes.txt").write_text("no image")
    read = folder_clip(tmp_path, SIZE)
    assert read[:2] == clip and len(read) == 3
    scaled = decode(read[2])
    assert scaled.shape == (48, 64, 3) and scaled[0, 0, 0] > 150 > scaled[0, 0, 2]  # RGB


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(SystemExit, match="holds no JPEGs"):
        folder_clip(tmp_path, SIZE)


def test_forth_and_back():
    assert [place_in_clip(4, index) for index in range(8)] == [0, 1, 2, 3, 2, 1, 0, 1]
    assert [place_in_clip(1, index) for index in range(3)] == [0, 0, 0]
    assert parse_size("1280x720") == (1280, 720)
