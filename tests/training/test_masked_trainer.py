"""Training under masks, on a toy network and one small picture."""

import json
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from support.frames import photo
from support.one_thread import one_thread  # noqa: F401
from support.toy_networks import CLASSES, toy
from tilestream.cli import app
from tilestream.models import build_model, load_model, save_model
from tilestream.models.registry import WeightsInfo
from tilestream_training.augment import AugmentOptions
from tilestream_training.datasets.base import Sample, SegmentationDataset
from tilestream_training.masked_clips import Clip
from tilestream_training.masked_trainer import MaskedOptions, MaskedTrainer
from tilestream_training.sampling import load_source
from tilestream_training.trainer import TrainOptions


class Pictures(SegmentationDataset):
    """Bands of brightness as classes."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        image = photo(96, 80, index)
        return Sample(image, (image.mean(axis=2) // 52).astype(np.uint8), str(index))


def make_trainer(directory: Path, masked: MaskedOptions | None = None, **changes) -> MaskedTrainer:
    settings = {
        "steps": 6, "batch": 2, "learning_rate": 3e-3, "warmup_steps": 1, "precision": "fp32",
        "distillation_weight": 0.5, "augment": AugmentOptions(crop=(64, 64), scale=(0.9, 1.2), jitter=0.3),
    }  # fmt: skip
    street = Clip(np.stack([photo(96, 80, 7)] * 16), np.zeros((16, 80, 96), dtype=np.uint8))
    return MaskedTrainer(
        toy("ladder").requires_grad_(True),
        [load_source(Pictures(), 1.0, CLASSES)],
        [street],
        TrainOptions(**{**settings, **changes}),
        masked or MaskedOptions(street_share=0.3, partial_frames=2, bin_size=16),
        directory,
        CLASSES,
        toy("ladder"),
    )


def test_resumed_run_equals_an_uninterrupted_one(tmp_path):
    whole = make_trainer(tmp_path / "whole")
    whole.run()
    make_trainer(tmp_path / "parts").run(until=2)
    resumed = make_trainer(tmp_path / "parts")
    assert resumed.step == 2
    resumed.run()
    for one, other in ((whole.model, resumed.model), (whole.average, resumed.average)):
        state = other.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in one.state_dict().items())


def test_what_a_step_sees_depends_on_the_seed_and_the_step(tmp_path):
    one, same, other = (make_trainer(tmp_path / str(i), seed=seed) for i, seed in enumerate((1, 1, 2)))
    one.step = same.step = other.step = 4
    drawn = [trainer.draw() for trainer in (one, same, other)]
    assert torch.equal(drawn[0].images, drawn[1].images)
    assert all(np.array_equal(a, b) for a, b in zip(drawn[0].keep[0], drawn[1].keep[0], strict=True))
    assert drawn[0].images.shape != drawn[2].images.shape or not torch.equal(drawn[0].images, drawn[2].images)


def test_as_many_partial_frames_as_asked_for(tmp_path):
    trainer = make_trainer(tmp_path, MaskedOptions(partial_frames=3, bin_size=16))
    lengths = set()
    for trainer.step in range(30):
        drawn = trainer.draw()
        assert len(drawn.images) == len(drawn.labels) == len(drawn.keep) + 1 == len(drawn.sources) + 1
        lengths.add(len(drawn.keep))
    assert lengths == {1, 2, 3}


def test_batch_norms_keep_to_their_statistics_and_frozen_weights_stay(tmp_path):
    trainer = make_trainer(tmp_path, frozen=("stem",))
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer.run()
    changed = {
        key for key, value in trainer.model.state_dict().items() if not torch.equal(value, before[key])
    }
    assert changed
    assert not any(key.startswith("stem") or "running" in key for key in changed)


def test_the_teacher_sees_no_noise(tmp_path):
    trainer = make_trainer(
        tmp_path, MaskedOptions(street_share=1.0, partial_frames=1, bin_size=16, noise=9.0)
    )
    drawn = trainer.draw()
    difference = (drawn.images.float() - drawn.clear.float()).abs().mean()
    assert 0.5 < difference < 12
    assert torch.equal(drawn.clear[0], drawn.clear[1])  # the street is one photo


def test_without_labels_a_network_stays_with_its_teacher(tmp_path):
    masked = MaskedOptions(street_share=0.3, partial_frames=1, bin_size=16, label_weight=0.0, noise=0.0)
    trainer = make_trainer(tmp_path, masked, distillation_weight=1.0)
    drawn = trainer.draw()
    everywhere = [np.ones_like(mask) for mask in drawn.keep[0]]
    played = trainer.network.dense(trainer._seen(drawn.clear[0]))
    loss = trainer._frame_loss(played, drawn, 0, everywhere).item()
    assert loss == pytest.approx(0.0, abs=1e-5)


def test_the_teachers_second_look_lies_on_the_first(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, MaskedOptions(bin_size=16, teacher_zoom=1.5))
    looks = []

    def dense(x):  # a teacher that says what it sees
        looks.append(tuple(x.shape[2:]))
        return SimpleNamespace(scores=torch.nn.functional.avg_pool2d(x, 4))

    monkeypatch.setattr(trainer._teacher_network, "dense", dense)
    slope = torch.linspace(-2, 2, 64)
    x = torch.stack([slope.expand(64, 64), slope[:, None].expand(64, 64), torch.zeros(64, 64)])[None]
    expected = torch.nn.functional.avg_pool2d(x, 4).log_softmax(dim=1)
    assert torch.allclose(trainer._taught(x), expected, atol=0.05)
    assert looks == [(64, 64), (96, 96)]


def test_the_result_is_blended_with_the_start(tmp_path):
    start = toy("ladder").state_dict()
    options = MaskedOptions(street_share=0.3, partial_frames=2, bin_size=16, blend=0.25)
    trainer = make_trainer(tmp_path, options)
    result = trainer.run().state_dict()
    moved = 0
    for name, trained in trainer.average.state_dict().items():
        expected = start[name] + 0.25 * (trained - start[name]) if trained.is_floating_point() else trained
        assert torch.allclose(result[name], expected, atol=1e-6)
        moved += not torch.equal(result[name], start[name])
    assert moved > 4
    with pytest.raises(ValueError, match="blend: 0; allowed: above 0 up to 1"):
        make_trainer(tmp_path, MaskedOptions(blend=0))


def test_what_has_no_weight_is_not_computed_and_something_has_to_have_one(tmp_path, monkeypatch):
    monkeypatch.setattr(MaskedTrainer, "_teacher_loss", None)
    make_trainer(tmp_path / "labels", distillation_weight=0.0)._losses()
    with pytest.raises(ValueError, match="nothing to learn from"):
        make_trainer(tmp_path / "none", MaskedOptions(label_weight=0.0), distillation_weight=0.0)


def test_freezing_what_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"no parameter begins with 'backbone'; there are .*stem"):
        make_trainer(tmp_path, frozen=("backbone",))


def test_partial_frames_get_better(tmp_path):
    trainer = make_trainer(tmp_path, steps=60, learning_rate=1e-2, distillation_weight=0.0)

    def loss() -> float:
        found = []
        with torch.no_grad():
            for trainer.step in range(1000, 1010):
                found.append(float(trainer._losses()))
        trainer.step = 0
        return float(np.mean(found))

    before = loss()
    trainer.run()
    assert loss() < 0.85 * before


# -- the command --


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("start") / "mine.safetensors"
    torch.manual_seed(0)
    info = WeightsInfo("ddrnet23_slim", ("dark", "bright"), ((0, 0, 0), (255, 255, 255)))
    save_model(build_model("ddrnet23_slim", 2), path, info)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for split in ("train", "test"):
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
        image = photo(96, 80, len(split))
        cv2.imwrite(str(root / split / "images" / "0.png"), image)
        cv2.imwrite(str(root / split / "labels" / "0.png"), (image.mean(axis=2) > 128).astype(np.uint8))
    (root / "classes.txt").write_text("dark\nbright\n")
    return root


def train_masked(folder: Path, start: Path, out: Path, *more: str):
    words = ["train-masked", "--data", f"folder:{folder}", "--start", str(start), "--out", str(out)]
    words += ["--streets", "0", "--steps", "2", "--batch", "1", "--crop", "64x64", "--partial", "1"]
    words += ["--threads", "1", "--device", "cpu", "--precision", "fp32", *more]
    with mock.patch("sys.argv", ["tilestream", *words]):  # the card tells the command line
        return CliRunner().invoke(app, words)


def test_the_command_pauses_goes_on_and_writes_weights_with_a_card(folder, start, tmp_path):
    first = train_masked(folder, start, tmp_path, "--pause-at", "1")
    assert first.exit_code == 0, first.output
    path = tmp_path / "ddrnet23_slim.safetensors"
    assert not path.exists()
    second = train_masked(folder, start, tmp_path, "--test", f"folder:{folder}")
    assert second.exit_code == 0, second.output
    old, new = load_model(str(start)).state_dict(), load_model(str(path)).state_dict()
    assert old.keys() == new.keys()
    assert any(not torch.equal(old[key], new[key]) for key in old)
    assert all(torch.equal(old[key], new[key]) for key in old if "running" in key)
    card = path.with_suffix(".md").read_text()
    assert "tilestream train-masked" in card and "1 stills" in card
    assert json.loads((tmp_path / "options.json").read_text())["steps"] == 2


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--start", "nosuch"), "unknown model"),
        (("--start", "swiftnet_resnet18"), "other classes"),
        (("--bin-size", "24"), "power of two"),
        (("--partial", "14"), "allowed: 1 to 13"),
        (("--data", "nosuch:x"), "unknown kind of data"),
    ],
)
def test_the_command_says_what_is_wrong(folder, start, tmp_path, more, words):
    result = train_masked(folder, start, tmp_path, *more)
    assert result.exit_code == 1
    assert words in " ".join(result.output.split())
