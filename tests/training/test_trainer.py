"""The training loop on a network of a few hundred weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from support.clock import ManualClock
from support.one_thread import one_thread  # noqa: F401
from support.operations import count_operations
from tilestream_training.augment import AugmentOptions
from tilestream_training.datasets.base import Sample, SegmentationDataset
from tilestream_training.sampling import Source, load_source
from tilestream_training.trainer import Trainer, TrainOptions

CLASSES = 3


class TinyNet(nn.Module):
    """Logits at stride 4, auxiliary logits at stride 8."""

    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, CLASSES, 1)
        self.deep = nn.Conv2d(8, CLASSES, 3, 2, 1)

    def forward_with_auxiliary(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(self.stem(x))
        return self.head(x), self.deep(x)


class Stripes(SegmentationDataset):
    """Three stripes, a class and a colour each."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Sample:
        labels = np.repeat(np.arange(CLASSES, dtype=np.uint8), 16)[:, None].repeat(48, axis=1)
        colours = np.array([(220, 30, 30), (30, 220, 30), (30, 30, 220)], np.uint8)
        noise = np.random.default_rng(index).integers(0, 30, (48, 48, 3))
        return Sample((colours[labels] + noise).astype(np.uint8), labels, f"stripes {index}")


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    return [load_source(Stripes(), 1.0, CLASSES)]


def options(**changes) -> TrainOptions:
    settings = {
        "steps": 8, "batch": 2, "learning_rate": 1e-2, "warmup_steps": 2, "precision": "fp32",
        "augment": AugmentOptions(crop=(32, 32), scale=(0.8, 1.2), jitter=0.3),
    }  # fmt: skip
    return TrainOptions(**{**settings, **changes})


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def assert_same_state(one: Trainer, other: Trainer) -> None:
    assert one.step == other.step
    assert same(one.model.state_dict(), other.model.state_dict())
    assert same(one.average.state_dict(), other.average.state_dict())
    moments, others = (trainer.optimizer.state_dict()["state"] for trainer in (one, other))
    assert all(same(moments[key], others[key]) for key in moments)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resumed_run_equals_an_uninterrupted_one(sources, tmp_path, precision) -> None:
    chosen = options(precision=precision)
    whole = Trainer(TinyNet(), sources, chosen, tmp_path / "whole", CLASSES)
    whole.run()
    Trainer(TinyNet(), sources, chosen, tmp_path / "parts", CLASSES).run(until=3)
    resumed = Trainer(TinyNet(seed=9), sources, chosen, tmp_path / "parts", CLASSES)
    assert resumed.step == 3
    resumed.run()
    assert_same_state(whole, resumed)


def test_crash_between_two_saves_loses_only_time(sources, tmp_path, monkeypatch) -> None:
    whole = Trainer(TinyNet(), sources, options(), tmp_path / "whole", CLASSES)
    whole.run()
    crashing = Trainer(TinyNet(), sources, options(), tmp_path / "parts", CLASSES)
    step = crashing._train_step

    def crash() -> dict[str, float]:
        if crashing.step == 5:
            raise KeyboardInterrupt
        return step()

    monkeypatch.setattr(crashing, "_train_step", crash)
    with pytest.raises(KeyboardInterrupt):
        crashing.run(save_every=2)
    (tmp_path / "parts" / "last.part").write_bytes(b"half a checkpoint")
    resumed = Trainer(TinyNet(seed=9), sources, options(), tmp_path / "parts", CLASSES)
    assert resumed.step == 4
    resumed.run(save_every=2)
    assert_same_state(whole, resumed)


def test_finished_run_is_left_alone(sources, tmp_path) -> None:
    first = Trainer(TinyNet(), sources, options(), tmp_path, CLASSES)
    first.run()
    again = Trainer(TinyNet(seed=9), sources, options(), tmp_path, CLASSES)
    average = again.run()
    assert_same_state(first, again)
    assert not average.training


def test_average_follows_the_weights(sources, tmp_path) -> None:
    trainer = Trainer(TinyNet(), sources, options(ema_decay=0.5), tmp_path, CLASSES)
    expected = copied(trainer.model)
    for step in range(6):
        trainer.run(until=step + 1)
        decay = min(0.5, (1 + step) / (10 + step))
        for key, value in trainer.model.state_dict().items():
            if value.is_floating_point():
                expected[key] = decay * expected[key] + (1 - decay) * value
            else:
                expected[key] = value.clone()
    for key, value in trainer.average.state_dict().items():
        torch.testing.assert_close(value, expected[key])
    assert not same(trainer.average.state_dict(), trainer.model.state_dict())


def test_frozen_prefixes_stay_as_they_are(sources, tmp_path) -> None:
    model = TinyNet()
    before = copied(model)
    trainer = Trainer(model, sources, options(frozen=("stem",)), tmp_path, CLASSES)
    average = trainer.run()
    for state in (model.state_dict(), average.state_dict()):
        for key, value in state.items():
            # Running statistics included; the counter of the frozen norm stands still as well.
            assert torch.equal(value, before[key]) == key.startswith("stem"), key


def test_slow_prefixes_have_their_own_rate_and_vectors_no_decay(sources, tmp_path) -> None:
    chosen = options(slow=("stem",), encoder_learning_rate=1e-3, weight_decay=0.1)
    trainer = Trainer(TinyNet(), sources, chosen, tmp_path, CLASSES)
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    seen = set()
    for group in trainer.optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            seen.add(name)
            assert group["base_lr"] == (1e-3 if name.startswith("stem") else 1e-2)
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0)
    assert seen == set(names.values())


def test_rate_follows_the_schedule(sources, tmp_path) -> None:
    trainer = Trainer(TinyNet(), sources, options(decay_share=0.5), tmp_path, CLASSES)
    rates = []
    for step in range(8):
        trainer.run(until=step + 1)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.005, 0.01, 0.01, 0.01, 0.01, 0.0075, 0.005, 0.0025])


def test_it_learns(sources, tmp_path) -> None:
    trainer = Trainer(TinyNet(), sources, options(steps=60, batch=4, ema_decay=0.9), tmp_path, CLASSES)
    average = trainer.run(save_every=5)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log] == list(range(5, 61, 5))
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]
    sample = Stripes()[0]
    x = torch.from_numpy(sample.image).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        logits = average.forward_with_auxiliary((x - 0.5) / 0.25)[0]
    guess = nn.functional.interpolate(logits, scale_factor=4.0, mode="bilinear").argmax(dim=1)[0]
    assert float((guess.numpy() == sample.labels).mean()) > 0.9


def test_soft_labels_are_followed(sources, tmp_path) -> None:
    """Of a teacher who calls every second column of the stripes by another name."""
    wanted = np.zeros((CLASSES, 12, 12), np.float16)
    wanted[0, :, ::2], wanted[1, :, 1::2] = 0.75, 0.75
    wanted += 0.25 / CLASSES
    chosen = options(steps=60, distillation_weight=50.0, lovasz_weight=0.0)
    student = Trainer(TinyNet(), sources, chosen, tmp_path, CLASSES, [wanted] * 4)
    x = torch.from_numpy(Stripes()[0].image).permute(2, 0, 1)[None].float() / 255

    def third() -> float:
        with torch.no_grad():
            return float(
                student.model.eval().forward_with_auxiliary((x - 0.5) / 0.25)[0].softmax(1)[:, 2].mean()
            )

    student.run()
    assert third() < 0.2  # a third of the picture, by its labels


def test_a_run_by_the_clock_adds_up_its_parts_and_ends_in_time(sources, tmp_path) -> None:
    clock = ManualClock()

    class Slow(Trainer):
        def _train_step(self):
            clock.advance(6.0)
            return super()._train_step()

    def slow(minutes: float) -> Trainer:
        timed = options(minutes=minutes, decay_share=0.5)
        return Slow(TinyNet(), sources, timed, tmp_path, CLASSES, clock=clock.now)

    first = slow(1.0)
    first.run(until=4)
    assert first.step == 4 and not first.done and first.seconds == 24.0
    clock.advance(1000.0)  # between two parts nothing counts
    second = slow(1.0)
    rates = []
    while not second.done:
        second.run(until=second.step + 1)
        rates.append(second.optimizer.param_groups[0]["lr"])
    assert second.step == 10 and second.seconds == 60.0
    assert rates == pytest.approx([0.01, 0.01, 0.008, 0.006, 0.004, 0.002])
    longer = slow(2.0)
    longer.run()
    assert longer.step == 20


def test_a_step_takes_as_many_calls_whatever_the_batch(sources, tmp_path) -> None:
    counts = []
    for batch in (2, 7):
        trainer = Trainer(TinyNet(), sources, options(batch=batch), tmp_path / str(batch), CLASSES)
        trainer.run(until=2)
        counts.append(count_operations(trainer._train_step))
    assert counts[0] == counts[1]


def test_run_directory(sources, tmp_path) -> None:
    directory: Path = tmp_path / "new" / "run"
    Trainer(TinyNet(), sources, options(seed=3), directory, CLASSES).run()
    assert {path.name for path in directory.iterdir()} == {"last.pt", "log.jsonl", "options.json"}
    written = json.loads((directory / "options.json").read_text())
    assert written["seed"] == 3 and written["augment"]["crop"] == [32, 32]
    state = torch.load(directory / "last.pt", weights_only=True)
    assert set(state) == {"model", "average", "optimizer", "step", "seconds"}
