"""Label images, CamVid lists, synthetic stills, and data sets by name."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.pictures import SIZE, put_image, put_labels
from tilestream_training.datasets import IGNORE_LABEL, DatasetError, open_dataset
from tilestream_training.datasets.base import label_lookup, read_labels
from tilestream_training.datasets.camvid import CLASS_NAMES, PALETTE, CamVid, near_stretch
from tilestream_training.datasets.folder import Folder
from tilestream_training.datasets.synthetic import SEEDS, SPACING, VIEWS_PER_STREET, SyntheticStills


def png(indices: np.ndarray, depth: int, colour_type: int) -> bytes:
    """A PNG written by hand: OpenCV writes neither palettes nor fewer than 8 bits."""
    height, width = indices.shape
    rows = b""
    for row in indices:
        bits = "".join(f"{value:0{depth}b}" for value in row)
        bits += "0" * (-len(bits) % 8)
        rows += b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(range(3)) * 2**depth) + chunk(b"tRNS", b"\0\xff")
    parts = [
        chunk(b"IHDR", header),
        palette if colour_type == 3 else b"",
        chunk(b"IDAT", zlib.compress(rows)),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


class TestLabelImages:
    @pytest.mark.parametrize("colour_type", [0, 3], ids=["gray", "palette"])
    @pytest.mark.parametrize("depth", [1, 2, 4, 8])
    def test_stored_indices_are_read(self, tmp_path, depth, colour_type) -> None:
        indices = np.random.default_rng(depth).integers(0, 2**depth, (5, 7))
        (tmp_path / "l.png").write_bytes(png(indices, depth, colour_type))
        labels = read_labels(tmp_path / "l.png")
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, indices)

    def test_colour_16_bit_and_broken_files_are_refused(self, tmp_path) -> None:
        put_image(tmp_path / "colour.png")
        cv2.imwrite(str(tmp_path / "deep.png"), np.zeros(SIZE, dtype=np.uint16))
        for name in ("colour.png", "deep.png"):
            with pytest.raises(DatasetError, match="gray or palette PNG"):
                read_labels(tmp_path / name)
        (tmp_path / "broken.png").write_bytes(png(np.zeros(SIZE, int), 8, 3)[:40])
        for name in ("broken.png", "none.png"):
            with pytest.raises(DatasetError, match=f"cannot read label image .*{name}"):
                read_labels(tmp_path / name)

    @given(st.dictionaries(st.integers(0, 255), st.integers(0, 18)))
    def test_lookup_ignores_what_is_not_listed(self, mapping) -> None:
        table = label_lookup(mapping)
        assert all(table[raw] == mapping.get(raw, IGNORE_LABEL) for raw in range(256))


class TestCamVid:
    @pytest.fixture
    def root(self, tmp_path) -> Path:
        for split, stems in {
            "train": ["0016E5_07699", "0016E5_07700", "0016E5_08400", "0016E5_08401", "0001TP_008000"],
            "val": ["0016E5_07959", "0016E5_08159"],
        }.items():
            for stem in stems:
                put_image(tmp_path / split / f"{stem}.png")
                put_labels(tmp_path / f"{split}annot" / f"{stem}.png", np.arange(48).reshape(SIZE) % 13)
            lines = [f"{split}/{stem}.png {split}annot/{stem}.png\n" for stem in stems]
            (tmp_path / f"{split}.txt").write_text("".join(lines))
        return tmp_path

    def test_train_leaves_out_the_neighbourhood_of_the_stretch(self, root) -> None:
        train = CamVid(root, "train")
        assert [train[i].name for i in range(len(train))] == ["0016E5_07699", "0016E5_08401", "0001TP_008000"]
        assert len(CamVid(root, "val")) == 2

    def test_sample(self, root) -> None:
        sample = CamVid(root, "val")[0]
        assert sample.image.shape == (*SIZE, 3) and tuple(sample.image[0, 0]) == (100, 101, 102)
        np.testing.assert_array_equal(
            sample.labels.reshape(-1)[:13], [*range(11), IGNORE_LABEL, IGNORE_LABEL]
        )

    def test_wrong_lists(self, root) -> None:
        with pytest.raises(DatasetError, match=r"test\.txt is missing"):
            CamVid(root, "test")
        (root / "test.txt").write_text("only_one_column.jpg\n")
        with pytest.raises(DatasetError, match="every line must be 'image label'"):
            CamVid(root, "test")
        (root / "test.txt").write_text("gone.jpg gone.png\n")
        with pytest.raises(DatasetError, match=r"cannot read image .*gone\.jpg"):
            CamVid(root, "test")[0]

    @given(st.integers(0, 99_999))
    def test_window(self, number) -> None:
        assert near_stretch(f"0016E5_{number:05d}") == (7700 <= number <= 8400)
        assert not near_stretch(f"0006R0_{number:05d}")


@dataclass
class FakeFrame:
    image: np.ndarray
    labels: np.ndarray


class FakeStreet:
    """Pictures that say where they come from, and how often one was rendered."""

    rendered = 0

    def __init__(self, seed: int, width: int, height: int, fps: float) -> None:
        self.seed, self.size = seed, (height, width)

    def frame(self, t: int) -> FakeFrame:
        type(self).rendered += 1
        rng = np.random.default_rng((self.seed, t))
        labels = rng.integers(0, 12, self.size).astype(np.uint8)
        return FakeFrame(rng.integers(0, 256, (*self.size, 3)).astype(np.uint8), labels)


class TestSynthetic:
    def test_streets_of_splits_are_disjoint(self) -> None:
        views = {}
        for split in SEEDS:
            dataset = SyntheticStills(40_000, split, (32, 16), street=FakeStreet)
            views[split] = {dataset.view(index) for index in range(0, 40_000, 7)}
            assert len(views[split]) == len(range(0, 40_000, 7))
        seeds = [{seed for seed, _ in chosen} for chosen in views.values()]
        assert sum(map(len, seeds)) == len(set.union(*seeds))
        assert max(seeds[0]) < 10_000 and min(SEEDS["test"]) >= 1_000_000

    def test_views_of_a_street_are_far_apart(self) -> None:
        dataset = SyntheticStills(9, "train", (32, 16), street=FakeStreet)
        assert [dataset.view(i) for i in range(9)] == [
            (i // VIEWS_PER_STREET, i % VIEWS_PER_STREET * SPACING) for i in range(9)
        ]
        assert SPACING >= 75

    def test_void_is_mapped(self) -> None:
        sample = SyntheticStills(1, "train", (32, 16), street=FakeStreet)[0]
        raw = FakeStreet(0, 32, 16, 15.0).frame(0).labels
        np.testing.assert_array_equal(sample.labels, np.where(raw == 11, IGNORE_LABEL, raw))

    def test_cache_gives_the_same_pixels_without_rendering(self, tmp_path) -> None:
        plain = SyntheticStills(3, "test", (32, 16), street=FakeStreet)
        cached = SyntheticStills(3, "test", (32, 16), tmp_path, street=FakeStreet)
        for index in range(3):
            first = cached[index]
            count = FakeStreet.rendered
            again = SyntheticStills(3, "test", (32, 16), tmp_path, street=FakeStreet)[index]
            assert FakeStreet.rendered == count
            for sample in (first, again):
                np.testing.assert_array_equal(sample.image, plain[index].image)
                np.testing.assert_array_equal(sample.labels, plain[index].labels)
                assert sample.image.flags.c_contiguous and sample.labels.flags.c_contiguous
        other = SyntheticStills(1, "test", (48, 16), tmp_path, street=FakeStreet)
        assert other[0].image.shape == (16, 48, 3)

    def test_damaged_cache_is_rendered_again(self, tmp_path) -> None:
        dataset = SyntheticStills(1, "train", (32, 16), tmp_path, street=FakeStreet)
        expected = dataset[0]
        (path,) = tmp_path.rglob("*.png")
        path.write_bytes(path.read_bytes()[:50])
        np.testing.assert_array_equal(dataset[0].image, expected.image)
        assert len(path.read_bytes()) > 50

    def test_limits(self) -> None:
        with pytest.raises(DatasetError, match="must be 1 to 40000, not 0"):
            SyntheticStills(0)
        with pytest.raises(DatasetError, match="must be 1 to 40000, not 40001"):
            SyntheticStills(40_001)
        with pytest.raises(DatasetError, match="no split 'all'; there are train, val, test"):
            SyntheticStills(1, "all")
        with pytest.raises(DatasetError, match="at least 16 x 16"):
            SyntheticStills(1, size=(8, 8))
        with pytest.raises(IndexError):
            SyntheticStills(1, street=FakeStreet)[1]

    def test_real_street(self) -> None:
        dataset = open_dataset("synthetic:2:64x48", "test")
        sample = dataset[1]
        assert len(dataset) == 2 and dataset.class_names == CLASS_NAMES and dataset.palette == PALETTE
        assert sample.image.shape == (48, 64, 3) and sample.image.dtype == np.uint8
        assert set(np.unique(sample.labels)) <= {*range(11), IGNORE_LABEL}
        np.testing.assert_array_equal(dataset[1].image, sample.image)


class TestRegistry:
    def test_kinds_are_listed(self) -> None:
        message = (
            r"'kitti'.*there are camvid:PATH, cityscapes:PATH, cityscapes11:PATH, folder:PATH, synthetic:"
        )
        with pytest.raises(DatasetError, match=message):
            open_dataset("kitti:/data")

    @pytest.mark.parametrize("text", ["camvid", "camvid:", "synthetic:"])
    def test_incomplete(self, text) -> None:
        with pytest.raises(DatasetError, match=f"'{text}' is incomplete: expected {text.partition(':')[0]}:"):
            open_dataset(text)

    @pytest.mark.parametrize("text", ["synthetic:many", "synthetic:-3", "synthetic:5:64", "synthetic:5:64x"])
    def test_synthetic_forms(self, text) -> None:
        with pytest.raises(DatasetError, match="COUNT:WIDTHxHEIGHT"):
            open_dataset(text)

    def test_no_folder(self, tmp_path) -> None:
        with pytest.raises(DatasetError, match="is not a folder"):
            open_dataset(f"folder:{tmp_path / 'none'}")

    def test_empty_split(self, tmp_path) -> None:
        (tmp_path / "val.txt").write_text("\n")
        with pytest.raises(DatasetError, match="no pictures in its 'val' split"):
            open_dataset(f"camvid:{tmp_path}", "val")

    def test_each_kind(self, tmp_path) -> None:
        put_image(tmp_path / "images" / "a.png")
        put_labels(tmp_path / "labels" / "a.png", 2)
        assert isinstance(open_dataset(f"folder:{tmp_path}"), Folder)
        assert isinstance(open_dataset("synthetic:3"), SyntheticStills)
