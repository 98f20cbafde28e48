"""Pictures of labels."""

from __future__ import annotations

import numpy as np
import pytest
from fake_answers import MODEL, labels_for

from tilestream_client import overlay
from tilestream_client.info import Model

MODEL_INFO = Model.from_proto(MODEL)
IMAGE = np.full((30, 40, 3), 100, np.uint8)


def test_colours_are_the_palette_s():
    labels = labels_for(0, 40, 30)
    picture = overlay.colorize(labels, MODEL_INFO.palette)
    for item in MODEL_INFO.classes:
        assert (picture[labels == item.value] == item.color).all()


def test_blend_mixes_and_scales_labels():
    mixed = overlay.blend(IMAGE, np.full((3, 4), 2, np.uint8), MODEL_INFO.palette, alpha=0.5)
    assert mixed.shape == IMAGE.shape and mixed[0, 0].tolist() == [50, 50, 121]


@pytest.mark.parametrize("size", [(80, 60), (20, 60), (7, 3), (40, 30)])
def test_fit_has_the_size_asked_for(size):
    assert overlay.fit(IMAGE, *size).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("width", [40, 200, 1000])
def test_the_legend_shows_every_colour(width):
    strip = overlay.legend(MODEL_INFO.classes, width)
    assert strip.shape[1] == width and strip.shape[0] % 2 == 0
    colours = set(map(tuple, strip.reshape(-1, 3).tolist()))
    assert {item.color for item in MODEL_INFO.classes} <= colours


def test_the_contact_sheet_stacks_its_rows():
    rows = [(f"frame {index}", IMAGE, 255 - IMAGE) for index in range(3)]
    sheet = overlay.contact_sheet(rows, MODEL_INFO.classes, width=400)
    assert sheet.shape[1] == 400 and sheet.shape[0] > 3 * 100
