"""Pictures and videos without labels."""

import cv2
import numpy as np
import pytest

from tilestream_training.datasets import open_dataset
from tilestream_training.datasets.base import IGNORE_LABEL, DatasetError


@pytest.fixture
def folder(tmp_path):
    """A picture, one below it that is wide, and three seconds of video."""
    picture = np.full((40, 60, 3), (10, 20, 200), np.uint8)  # BGR
    (tmp_path / "deeper").mkdir()
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    cv2.imwrite(str(tmp_path / "deeper" / "wide.png"), cv2.resize(picture, (960, 480)))
    video = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for index in range(30):
        video.write(np.full((48, 64, 3), index * 8, np.uint8))
    video.release()
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_a_folder_of_pictures_and_videos(folder):
    data = open_dataset(f"unlabelled:{folder}")
    assert [data[i].image.shape for i in range(len(data))] == [
        (40, 60, 3), (240, 480, 3), *[(48, 64, 3)] * 6,
    ]  # fmt: skip
    assert all((data[i].labels == IGNORE_LABEL).all() for i in range(len(data)))
    assert data[0].image[0, 0].tolist() == [200, 20, 10]
    frames = [int(data[i].image.mean()) for i in range(2, 8)]
    assert frames == pytest.approx([index * 8 for index in range(0, 30, 5)], abs=3)  # every half second


def test_one_file_and_a_width(folder):
    assert len(open_dataset(f"unlabelled:{folder / 'v.avi'}")) == 6
    assert open_dataset(f"unlabelled:{folder / 'deeper'}:120")[0].image.shape == (60, 120, 3)


@pytest.mark.parametrize("where", ["nosuch", "notes.txt"])
def test_nothing_to_read_is_told(folder, where):
    with pytest.raises(DatasetError, match=where):
        open_dataset(f"unlabelled:{folder / where}")
