"""A drive with stops: exact labels, fresh noise, the same in every run."""

from itertools import pairwise

import numpy as np
import pytest

from tilestream_training.datasets.base import Sample, SegmentationDataset
from tilestream_training.standstill import NOISE, WithStops, parse_stops

FRAMES = 9


class Drive(SegmentationDataset):
    class_names = ("a", "b")

    def __len__(self) -> int:
        return FRAMES

    def __getitem__(self, index: int) -> Sample:
        grey = np.full((40, 60, 3), 20 * (index + 1), np.uint8)
        return Sample(grey, np.full((40, 60), index % 2, np.uint8), f"frame{index}")


@pytest.mark.parametrize(("held", "stops"), [(3, 2), (1, 1), (5, 8)])
def test_the_drive_is_all_there_and_stops_so_often_for_so_long(held, stops):
    clip = WithStops(Drive(), held, stops)
    samples = [clip[index] for index in range(len(clip))]
    assert len(samples) == FRAMES + held * stops
    driven = [sample for sample in samples if "+" not in sample.name]
    assert [sample.name for sample in driven] == [f"frame{index}" for index in range(FRAMES)]
    for before, sample in pairwise(samples):
        if "+" in sample.name:
            assert np.array_equal(sample.labels, before.labels)
            assert sample.name.split("+")[0] == before.name.split("+")[0]
    assert sum(sample.name.endswith("+1") for sample in samples) == stops


def test_noise_is_fresh_for_every_frame_and_the_same_in_every_run():
    first, second = WithStops(Drive(), 4, 1), WithStops(Drive(), 4, 1)
    held = [index for index in range(len(first)) if "+" in first[index].name]
    pictures = [first[index].image for index in held]
    original = Drive()[int(first[held[0]].name[5])].image
    for number, (index, picture) in enumerate(zip(held, pictures, strict=True)):
        assert np.array_equal(picture, second[index].image)
        difference = picture.astype(float) - original
        assert difference.std() == pytest.approx(NOISE, rel=0.1) and abs(difference.mean()) < 0.2
        assert not any(np.array_equal(picture, other) for other in pictures[:number])


def test_how_it_is_written():
    assert parse_stops("20x3") == (20, 3)
    for wrong in ("20", "x3", "20x", "-1x3", "20x3x1"):
        with pytest.raises(ValueError, match="20x3"):
            parse_stops(wrong)
    for held, stops in ((0, 3), (3, 0), (3, FRAMES)):
        with pytest.raises(ValueError, match="stops"):
            WithStops(Drive(), held, stops)
