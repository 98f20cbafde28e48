"""`tilestream train` and `tilestream eval stills`, on a handful of tiny pictures."""

import json
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tilestream.cli import app
from tilestream.models import load_model
from tilestream_training.cards import Phase, read_phases, record_phase

runner = CliRunner()
SPLITS = ("train", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four pictures a split of two classes that a network can tell apart by their brightness."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        for split in ("train", "test"):
            (root / split / kind).mkdir(parents=True)
    for index in range(8):
        labels = np.zeros((64, 64), dtype=np.uint8)
        labels[:, rng.integers(16, 48) :] = 1
        image = np.where(labels[..., None] == 1, 200, 40) + rng.integers(-20, 20, (64, 64, 3))
        cv2.imwrite(str(root / SPLITS[index % 2] / "images" / f"{index}.png"), image.astype(np.uint8))
        cv2.imwrite(str(root / SPLITS[index % 2] / "labels" / f"{index}.png"), labels)
    (root / "classes.txt").write_text("dark\nbright\n")
    return root


def train(folder, out, *more):
    words = ["train", "--data", f"folder:{folder}", "--out", str(out), "--model", "ddrnet23_slim"]
    words += ["--steps", "4", "--batch", "2", "--crop", "64x64", "--threads", "1", "--device", "cpu"]
    words += ["--precision", "fp32", *more]
    with mock.patch("sys.argv", ["tilestream", *words]):  # the card tells the command line
        return runner.invoke(app, words)


def test_train_pauses_goes_on_and_writes_weights_with_a_card(folder, tmp_path):
    first = train(folder, tmp_path / "run", "--pause-at", "2")
    assert first.exit_code == 0, first.output
    assert not (tmp_path / "run" / "ddrnet23_slim.safetensors").exists()
    second = train(folder, tmp_path / "run", "--test", f"folder:{folder}")
    assert second.exit_code == 0, second.output
    path = tmp_path / "run" / "ddrnet23_slim.safetensors"
    info = load_model(str(path)).info
    assert info.classes == ("dark", "bright")
    card = path.with_suffix(".md").read_text()
    assert "From step 2" in card and "tilestream train --data folder:data" in card
    assert "seed 0" in card and f"{info.reference_miou:.4f}" in card
    assert str(folder.parent) not in card

    target = tmp_path / "report.json"
    words = ["eval", "stills", "--data", f"folder:{folder}", "--model", str(path), "--json", str(target)]
    result = runner.invoke(app, [*words, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    report = json.loads(target.read_text())
    assert report["frames"] == 4 and set(report["iou"]) == {"dark", "bright"}
    assert report["miou"] == pytest.approx(info.reference_miou, abs=1e-4)

    # A run of no steps gives back the weights that it started from.
    again = train(folder, tmp_path / "again", "--start", str(path), "--steps", "0")
    assert again.exit_code == 0, again.output
    old, new = (load_model(str(p)).state_dict() for p in (path, tmp_path / "again" / path.name))
    assert all(torch.equal(new[key], value) for key, value in old.items())


def test_students_learn_from_teachers_and_pictures_without_labels(folder, tmp_path):
    start = train(folder, tmp_path / "teacher", "--steps", "1")
    assert start.exit_code == 0, start.output
    teacher = str(tmp_path / "teacher" / "ddrnet23_slim.safetensors")
    words = ["--model", "swiftnet_mobilenetv2", "--width", "16", "--data", f"unlabelled:{folder}/test/images"]
    words += ["--teacher", teacher, "--teacher", teacher]
    first = train(folder, tmp_path / "student", *words, "--pause-at", "2")
    assert first.exit_code == 0, first.output
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "student" / "stills" / "soft").iterdir()}
    assert len(kept) == 8
    second = train(folder, tmp_path / "student", *words, "--resume")
    assert second.exit_code == 0, second.output
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    path = tmp_path / "student" / "swiftnet_mobilenetv2.safetensors"
    student = load_model(str(path))
    assert student.width == 16 and student.info.classes == ("dark", "bright")
    assert "unlabelled (4 stills" in path.with_suffix(".md").read_text()


def test_a_run_may_end_by_the_clock(folder, tmp_path):
    result = train(folder, tmp_path / "run", "--minutes", "0.0001", "--steps", "1000")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "ddrnet23_slim.safetensors").is_file()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--data", "nosuch:x"), "unknown kind of data"),
        (("--model", "nosuch"), "unknown architecture"),
        (("--device", "abacus"), "unknown device"),
        (("--freeze", "nosuch"), "nothing to freeze"),
        (("--teacher", "nosuch"), "unknown model"),
        (("--teacher", "ddrnet23_slim"), "tells other classes apart"),
        (("--data", "unlabelled:{data}/test/images"), "need a --teacher"),
        (("--width", "32"), "cannot have a decoder of 32 channels"),
        (("--resume",), "no run in"),
        (("--start", "ddrnet23_slim"), "for other classes"),
        (("--test", "folder:nosuch"), "not a folder"),
        (("--data", "synthetic:1"), "different classes"),
    ],
)
def test_mistakes_are_told_in_one_line(folder, tmp_path, more, words):
    result = train(folder, tmp_path / "run", *(word.format(data=folder) for word in more))
    assert result.exit_code == 1
    assert words in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_phases_of_a_run_are_kept_in_order(tmp_path):
    one, two = Phase(0, "a", ("x",), ("l",)), Phase(5, "b", ("x", "y"), ("l", "m"))
    for phase in (one, one, two):
        record_phase(tmp_path, phase)
    assert read_phases(tmp_path) == [one, two]
