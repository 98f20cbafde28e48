"""Cityscapes and plain folders on tiny made-up trees, and what they say where a tree is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from support.pictures import SIZE, put_image, put_labels
from tilestream_training.datasets import IGNORE_LABEL, DatasetError, open_dataset
from tilestream_training.datasets.camvid import CLASS_NAMES, PALETTE
from tilestream_training.datasets.cityscapes import CLASS_NAMES as CITYSCAPES_NAMES
from tilestream_training.datasets.cityscapes import PALETTE as CITYSCAPES_PALETTE
from tilestream_training.datasets.cityscapes import TO_CAMVID, Cityscapes, CityscapesClips
from tilestream_training.datasets.folder import Folder, default_palette

# id in *_labelIds.png -> (class of the 19 or None for void, class of the 11)
CITYSCAPES_IDS = {
    0: None, 1: None, 2: None, 3: None, 4: None, 5: None, 6: None, 9: None, 10: None, 14: None, 15: None,
    16: None, 18: None, 29: None, 30: None,
    7: ("road", "road"), 8: ("sidewalk", "pavement"), 11: ("building", "building"), 12: ("wall", "building"),
    13: ("fence", "fence"), 17: ("pole", "pole"), 19: ("traffic light", "sign"), 20: ("traffic sign", "sign"),
    21: ("vegetation", "tree"), 22: ("terrain", "tree"), 23: ("sky", "sky"), 24: ("person", "pedestrian"),
    25: ("rider", "bicyclist"), 26: ("car", "car"), 27: ("truck", "car"), 28: ("bus", "car"),
    31: ("train", "car"), 32: ("motorcycle", "bicyclist"), 33: ("bicycle", "bicyclist"),
}  # fmt: skip


class TestCityscapes:
    @pytest.fixture
    def root(self, tmp_path) -> Path:
        """Two labelled frames in one long sequence, as some cities have them, and one in another city."""
        self.labels = np.pad(np.arange(34, dtype=np.uint8), (0, 14)).reshape(SIZE)
        for value, stem in enumerate(
            ("hamburg_000000_000042", "hamburg_000000_000629", "aachen_000003_000019")
        ):
            city = stem.partition("_")[0]
            put_image(tmp_path / f"leftImg8bit/val/{city}/{stem}_leftImg8bit.png", value)
            put_labels(tmp_path / f"gtFine/val/{city}/{stem}_gtFine_labelIds.png", self.labels)
            put_labels(tmp_path / f"gtFine/val/{city}/{stem}_gtFine_instanceIds.png", 0)
            frame = int(stem[-6:])
            for number in range(frame - 19, frame + 11):
                name = f"{stem[:-6]}{number:06d}_leftImg8bit.png"
                put_image(tmp_path / f"leftImg8bit_sequence/val/{city}/{name}", number - (frame - 19))
        return tmp_path

    def test_nineteen_classes(self, root) -> None:
        dataset = Cityscapes(root, "val")
        names = [dataset[i].name for i in range(len(dataset))]
        assert [name.partition("_left")[0] for name in names] == [
            "aachen_000003_000019", "hamburg_000000_000042", "hamburg_000000_000629",
        ]  # fmt: skip
        flat = dataset[1].labels.reshape(-1)
        for raw, classes in CITYSCAPES_IDS.items():
            found = None if flat[raw] == IGNORE_LABEL else dataset.class_names[flat[raw]]
            assert found == (classes[0] if classes else None), raw

    def test_as_camvid(self, root) -> None:
        dataset = open_dataset(f"cityscapes11:{root}", "val")
        assert dataset.class_names == CLASS_NAMES and dataset.palette == PALETTE
        flat = dataset[1].labels.reshape(-1)
        for raw, classes in CITYSCAPES_IDS.items():
            found = None if flat[raw] == IGNORE_LABEL else dataset.class_names[flat[raw]]
            assert found == (classes[1] if classes else None), raw
        assert set(TO_CAMVID) == set(CLASS_NAMES)

    def test_official_palette(self) -> None:
        colours = dict(zip(CITYSCAPES_NAMES, CITYSCAPES_PALETTE, strict=True))
        assert len(colours) == len(set(colours.values())) == 19
        assert colours["road"] == (128, 64, 128) and colours["terrain"] == (152, 251, 152)
        assert colours["traffic light"] == (250, 170, 30) and colours["bicycle"] == (119, 11, 32)

    def test_clips_are_in_order_around_the_labelled_frame(self, root) -> None:
        clips = CityscapesClips(root, "val", classes="camvid11")
        assert [clip.name for clip in clips] == [
            "aachen_000003_000019", "hamburg_000000_000042", "hamburg_000000_000629",
        ]  # fmt: skip
        clip = clips[1]
        assert len(clip.frames) == 30 and clip.frames[clip.labelled_index].name.startswith(clip.name)
        assert [int(image[0, 0, 0]) for image in clip.images()] == list(range(30))
        sample = clip.sample()
        np.testing.assert_array_equal(sample.labels, Cityscapes(root, "val", classes="camvid11")[1].labels)
        assert tuple(sample.image[0, 0]) == (19, 20, 21)
        assert len(clips[:2]) == 2

    def test_incomplete_trees(self, root) -> None:
        with pytest.raises(DatasetError, match=r"official archives.*splits there: val"):
            Cityscapes(root, "train")
        with pytest.raises(DatasetError, match=r"splits there: none"):
            Cityscapes(root / "gtFine", "val")
        (root / "leftImg8bit_sequence/val/aachen/aachen_000003_000029_leftImg8bit.png").unlink()
        with pytest.raises(DatasetError, match=r"lacks 1 of its 30 frames: .*aachen_000003_000029"):
            CityscapesClips(root, "val")
        image = root / "leftImg8bit/val/hamburg/hamburg_000000_000042_leftImg8bit.png"
        image.unlink()
        with pytest.raises(DatasetError, match=r"1 of 3 labelled stills have no image.*000042"):
            Cityscapes(root, "val")
        put_image(image)
        put_image(image.with_name("hamburg_000000_000043_leftImg8bit.png"))
        with pytest.raises(DatasetError, match=r"1 images have no gtFine_labelIds\.png.*000043"):
            Cityscapes(root, "val")


class TestFolder:
    @pytest.fixture
    def root(self, tmp_path) -> Path:
        for value, name in enumerate(("a.jpg", "b.png", "c.JPEG")):
            put_image(tmp_path / "images" / name, 10 * value)
            put_labels(tmp_path / "labels" / f"{name[0]}.png", value)
        (tmp_path / "images" / "notes.md").write_text("not a picture")
        return tmp_path

    def test_without_a_list_classes_are_numbered(self, root) -> None:
        labels = np.full(SIZE, 3, dtype=np.uint8)
        labels[0, 0] = IGNORE_LABEL
        put_labels(root / "labels" / "b.png", labels)
        dataset = Folder(root)
        assert dataset.class_names == ("class 0", "class 1", "class 2", "class 3")
        assert [dataset[i].name for i in range(3)] == ["a", "b", "c"]
        assert dataset[1].labels[0, 0] == IGNORE_LABEL and dataset[1].labels[1, 1] == 3
        assert len(set(dataset.palette)) == 4

    def test_classes_txt(self, root) -> None:
        (root / "classes.txt").write_text(
            "# mine\nroad 128 64 128\ntraffic light, 250, 170, 30\n\nignore = 2\n"
        )
        dataset = Folder(root)
        assert dataset.class_names == ("road", "traffic light")
        assert dataset.palette == ((128, 64, 128), (250, 170, 30))
        assert (dataset[2].labels == IGNORE_LABEL).all()

    def test_classes_txt_with_names_alone(self, root) -> None:
        (root / "classes.txt").write_text("road\nfork lift\nrack 2\n")
        assert Folder(root).class_names == ("road", "fork lift", "rack 2")

    @pytest.mark.parametrize("wrapped", [True, False])
    def test_classes_json(self, root, wrapped) -> None:
        names = ["road", {"name": "car"}, "person"]
        (root / "classes.json").write_text(json.dumps({"classes": names, "ignore": 9} if wrapped else names))
        dataset = Folder(root)
        assert dataset.class_names == ("road", "car", "person")
        assert dataset.palette == default_palette(3)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", "classes.json"), ("{}", '"classes"'), ("[]", "1 to 255 classes, not 0"),
            ('["a", "a"]', "occur twice: a"), ('[{"color": [1, 2, 3]}]', "'name' is missing"),
            ('[{"name": "a", "color": [1, 2]}]', "three numbers"), ("[3]", "every class must be"),
            ('[{"name": "a", "color": [1, 2, 256]}, "b"]', "three numbers"),
            ('{"classes": ["a", "b"], "ignore": 1}', "beyond the classes, 2 to 255, not 1"),
            ('{"classes": ["a"], "ignore": "x"}', '"ignore" must be a number'),
        ],
    )  # fmt: skip
    def test_wrong_lists_of_classes(self, root, content, message) -> None:
        (root / "classes.json").write_text(content)
        with pytest.raises(DatasetError, match=message):
            Folder(root)

    def test_label_beyond_the_classes(self, root) -> None:
        (root / "classes.txt").write_text("road\ncar\n")
        dataset = Folder(root)
        assert dataset[1].labels.max() == 1
        with pytest.raises(
            DatasetError, match=r"c\.png holds label 2, but there are 2 classes \(0 to 1; 255"
        ):
            dataset[2]

    def test_missing_pairs(self, root) -> None:
        (root / "labels" / "b.png").unlink()
        with pytest.raises(DatasetError, match=r"1 files missing: labels/b\.png"):
            Folder(root)
        put_labels(root / "labels" / "b.png", 1)
        put_labels(root / "labels" / "z.png", 1)
        with pytest.raises(DatasetError, match=r"1 files missing: images/z\.\*"):
            Folder(root)

    def test_same_stem_twice(self, root) -> None:
        put_image(root / "images" / "a.png")
        with pytest.raises(DatasetError, match="have the same stem"):
            Folder(root)

    def test_sizes_differ(self, root) -> None:
        put_image(root / "images" / "b.png", size=(5, 5))
        with pytest.raises(DatasetError, match=r"b\.png is \(5, 5\) but .*b\.png is \(6, 8\)"):
            Folder(root)[1]

    def test_all_void(self, root) -> None:
        for stem in "abc":
            put_labels(root / "labels" / f"{stem}.png", 255)
        with pytest.raises(DatasetError, match="all pixels are void"):
            Folder(root)

    def test_unsplit_folder_has_no_test_split(self, root) -> None:
        assert len(Folder(root, "all")) == 3
        with pytest.raises(DatasetError, match="is not split, so it has no 'test'"):
            Folder(root, "test")

    def test_splits(self, tmp_path) -> None:
        for split, stem in (("train", "a"), ("val", "b")):
            put_image(tmp_path / split / "images" / f"{stem}.png")
            put_labels(tmp_path / split / "labels" / f"{stem}.png")
        assert [Folder(tmp_path, split)[0].name for split in ("train", "val")] == ["a", "b"]
        with pytest.raises(DatasetError, match="splits train, val"):
            Folder(tmp_path, "test")

    def test_nothing_there(self, tmp_path) -> None:
        with pytest.raises(DatasetError, match="must hold images/ and labels/"):
            Folder(tmp_path)
        (tmp_path / "images").mkdir()
        with pytest.raises(DatasetError, match=r"labels is missing"):
            Folder(tmp_path)
        (tmp_path / "labels").mkdir()
        with pytest.raises(DatasetError, match="no images"):
            Folder(tmp_path)
