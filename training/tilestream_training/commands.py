"""The command ``tilestream train``."""

from __future__ import annotations

import platform
import shlex
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from tilestream.engine.device import choose_device
from tilestream.engine.precision import choose_precision
from tilestream.messages import EngineError
from tilestream.models import ModelError, build_model, load_model, save_model
from tilestream.models.census import count_macs, shadow_of
from tilestream.models.registry import ARCHITECTURES, WeightsInfo, read_weights_info, weights_path
from tilestream.terminal import say
from tilestream_training.augment import AugmentOptions
from tilestream_training.cards import CardFacts, Phase, read_phases, record_phase, render_card
from tilestream_training.datasets import open_dataset
from tilestream_training.datasets.base import DatasetError, SegmentationDataset
from tilestream_training.evaluation import evaluate_stills
from tilestream_training.initialise import initialise_from_folded
from tilestream_training.options import (
    CropOption,
    DeviceOption,
    DistillationOption,
    FreezeOption,
    MixedPrecisionOption,
    PauseOption,
    RateOption,
    RunOption,
    StepsOption,
    TestOption,
    ThreadsOption,
    ZoomOption,
)
from tilestream_training.reports import print_stills, public_name, split_share
from tilestream_training.sampling import Source, load_source
from tilestream_training.soft_labels import SoftLabels, soft_labels
from tilestream_training.stills import hold_stills
from tilestream_training.trainer import Trainer, TrainOptions
from tilestream_training.views import draw_views


def train(
    data: Annotated[list[str], typer.Option(help="KIND:PATH[@SHARE], e.g. camvid:DIR@0.7; may be repeated.")],
    out: RunOption,
    model: Annotated[
        str, typer.Option(help="Architecture: " + ", ".join(ARCHITECTURES))
    ] = "swiftnet_resnet18",
    width: Annotated[
        int | None, typer.Option(help="Channels of the decoder, where the model lets them be chosen.")
    ] = None,
    steps: StepsOption = 3000,
    minutes: Annotated[
        float | None,
        typer.Option(help="End after so many minutes of training, all parts of the run together."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, which must be there.")
    ] = False,
    batch: Annotated[int, typer.Option(help="Views per step.")] = 8,
    crop: CropOption = "288x384",
    scale: ZoomOption = "0.65:2",
    learning_rate: RateOption = 4e-4,
    encoder_learning_rate: Annotated[
        float, typer.Option("--encoder-lr", help="The same where --init gave weights.")
    ] = 1e-4,
    decay_share: Annotated[
        float, typer.Option(help="Share of the steps in which the rate falls to zero.")
    ] = 0.35,
    lovasz: Annotated[float, typer.Option(help="Weight of the Lovasz-softmax loss.")] = 0.5,
    class_weight_power: Annotated[
        float, typer.Option(help="Classes weigh frequency to the minus this in the loss.")
    ] = 0.25,
    init: Annotated[
        Path | None, typer.Option(help="ImageNet weights of the encoder with folded batch norm (.npz).")
    ] = None,
    freeze: FreezeOption = None,
    start: Annotated[
        str | None,
        typer.Option(help="Model to start from: a name or a .safetensors file."),
    ] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(help="Model whose answers are learned too, a name or a file; of several, their mean."),
    ] = None,
    distillation: DistillationOption = 1.0,
    test: TestOption = None,
    seed: Annotated[int, typer.Option(help="Decides initial weights and every random view.")] = 0,
    device: DeviceOption = "auto",
    precision: MixedPrecisionOption = "auto",
    threads: ThreadsOption = 0,
    pause_at: PauseOption = None,
) -> None:
    """Train a segmentation model; writes model.safetensors and its card model.md into --out."""
    try:
        place = prepare(threads, seed, device)
        options = TrainOptions(
            steps=steps,
            minutes=minutes,
            batch=batch,
            learning_rate=learning_rate,
            encoder_learning_rate=encoder_learning_rate,
            decay_share=decay_share,
            lovasz_weight=lovasz,
            class_weight_power=class_weight_power,
            distillation_weight=distillation if teacher else 0.0,
            frozen=tuple(freeze or ()),
            slow=_encoder_prefixes(init),
            seed=seed,
            precision=choose_precision(precision, place)[0],  # type: ignore[arg-type]
            device=str(place),
            augment=AugmentOptions(crop=parse_size(crop), scale=parse_range(scale)),
        )
        if resume and not (out / "last.pt").exists():
            raise ValueError(f"there is no run in {out} to go on with")
        datasets, tests = open_all(data, test, out / "stills", unlabelled=bool(teacher))
        first = datasets[0][0]
        classes = len(first.class_names)
        sources = [load_source(dataset, share, classes) for dataset, share in datasets]
        network = _start_from(start, model, first) if start else build_model(model, classes, width)
        if init is not None and not (out / "last.pt").exists():
            _initialise(network, init, sources, classes, options)
        soft = _taught(teacher, first, sources, out / "stills", place) if teacher else None
        trainer = Trainer(network, sources, options, out, classes, soft)
    except (DatasetError, ModelError, EngineError, ValueError, OSError) as error:
        say(f"error: {error}", error=True)
        raise typer.Exit(1) from None
    names = [public_name(text) for text in data]
    play_out(trainer, pause_at, model, list(zip(names, datasets, strict=True)), tests)


def play_out(
    trainer: Trainer,
    pause_at: int | None,
    model: str,
    data: list[tuple[str, tuple[SegmentationDataset, float]]],
    tests: list[tuple[str, SegmentationDataset]],
    also: tuple[str, ...] = (),
) -> None:
    """Train to the end or to ``pause_at``; at the end, write the weights and their card.

    ``data``: names, data sets and shares. ``also``: what else was learned from, in words.
    """
    names = tuple(f"{name} ({len(dataset)} stills, share {share:g})" for name, (dataset, share) in data)
    licences = tuple(dataset.licence for _, (dataset, _) in data)
    record_phase(trainer.directory, Phase(trainer.step, _command(), (*names, *also), licences))
    average = trainer.run(until=pause_at)
    if not trainer.done:
        say(
            f"paused at step {trainer.step}; the same command without --pause-at goes on",
            error=True,
        )
        return
    _finish(average, trainer, model, data[0][1][0], tests)


def _finish(
    average: nn.Module,
    trainer: Trainer,
    model: str,
    dataset: SegmentationDataset,
    tests: list[tuple[str, SegmentationDataset]],
) -> None:
    """Write the weights, measure them as they were written, write the card."""
    path = trainer.directory / f"{model}.safetensors"
    width = getattr(average, "width", None)
    save_model(average, path, WeightsInfo(model, dataset.class_names, dataset.palette, width=width))
    written = load_model(str(path))
    reports = [
        (f"{public_name(text)} test", evaluate_stills(written, data, trainer.device)) for text, data in tests
    ]
    if reports:
        info = WeightsInfo(model, dataset.class_names, dataset.palette, reports[0][1].miou, width)
        save_model(average, path, info)
    size = (384, 512)
    facts = CardFacts(
        name=model,
        description=ARCHITECTURES[model].description,
        parameters=sum(p.numel() for p in average.parameters()),
        gmacs=count_macs(shadow_of(written), *size) / 1e9,
        gmacs_size=size,
        steps=trainer.step,
        hours=trainer.seconds / 3600,
        machine=_machine(trainer.device),
        seed=trainer.options.seed,
    )
    path.with_suffix(".md").write_text(render_card(facts, read_phases(trainer.directory), reports))
    for title, report in reports:
        print_stills(title, report)
    say(f"wrote {path} and its card", error=True)


def prepare(threads: int, seed: int, device: str) -> torch.device:
    """Set the number of threads (0: leave it) and the seed; the device. Raises EngineError."""
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    return choose_device(device)


def open_all(
    data: list[str], test: list[str] | None, cache: Path, unlabelled: bool = False
) -> tuple[list[tuple[SegmentationDataset, float]], list[tuple[str, SegmentationDataset]]]:
    """The ``train`` splits of KIND:PATH[@SHARE] with their shares, and by name the ``test`` splits.

    Raises DatasetError, also where they do not have the same classes. ``unlabelled``: whether pictures
    without labels may be among them, which cannot come first.
    """
    datasets = [_open_share(text, cache) for text in data]
    tests = [(text, open_dataset(text, "test", cache)) for text in test or ()]
    labelled = [dataset for dataset, _ in datasets if dataset.class_names]
    if not datasets[0][0].class_names or not (unlabelled or len(labelled) == len(datasets)):
        raise DatasetError("pictures without labels need a --teacher of `train`, and data with labels first")
    _check_classes([*labelled, *(dataset for _, dataset in tests)])
    return datasets, tests


def _open_share(text: str, cache: Path) -> tuple[SegmentationDataset, float]:
    specification, share = split_share(text)
    return open_dataset(specification, "train", cache), share


def _check_classes(datasets: list[SegmentationDataset]) -> None:
    """All data of a run has to mean the same by a label."""
    for dataset in datasets[1:]:
        if dataset.class_names != datasets[0].class_names:
            raise DatasetError(
                f"the data sets have different classes: {', '.join(datasets[0].class_names)} "
                f"and {', '.join(dataset.class_names)}"
            )


def _start_from(start: str, architecture: str, dataset: SegmentationDataset) -> nn.Module:
    """A network with the weights of a trained one. Raises ModelError if that is another one."""
    trained = load_model(start)
    info = read_weights_info(weights_path(start))
    if info.architecture != architecture or info.classes != dataset.class_names:
        raise ModelError(f"{start} is {info.architecture} for other classes or not {architecture}")
    return trained.requires_grad_(True)


def _taught(
    names: list[str], dataset: SegmentationDataset, sources: list[Source], folder: Path, place: torch.device
) -> list[SoftLabels]:
    """What the teachers say of every still. Raises ModelError if one tells other classes apart."""
    teachers = [load_model(name) for name in names]
    for name, teacher in zip(names, teachers, strict=True):
        if teacher.info.classes != dataset.class_names:  # type: ignore[union-attr]
            raise ModelError(f"{name} tells other classes apart than the data")
    samples = [sample for source in sources for sample in source.samples]
    return soft_labels(teachers, samples, folder / "soft", place)


def _initialise(
    network: nn.Module, path: Path, sources: list[Source], classes: int, options: TrainOptions
) -> None:
    plain = AugmentOptions(options.augment.crop, options.augment.scale, jitter=0.0, mix=0.0)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (network.mean, network.std))
    stills = hold_stills(sources, classes, torch.device("cpu"))
    images = draw_views(stills, 8, plain, mean, options.seed, 0).images
    count = initialise_from_folded(network.encoder, path, (images - mean) / std)  # type: ignore[arg-type]
    say(f"{count} convolutions of the encoder start from {path.name}", error=True)


def _encoder_prefixes(init: Path | None) -> tuple[str, ...]:
    """Parameters that start from ImageNet, as far as the file goes."""
    return (
        ("encoder.conv1", "encoder.bn1", "encoder.layer1", "encoder.layer2", "encoder.layer3") if init else ()
    )


def parse_size(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH."""
    height, _, width = text.partition("x")
    return int(height), int(width)


def parse_range(text: str) -> tuple[float, float]:
    """MIN:MAX."""
    low, _, high = text.partition(":")
    return float(low), float(high)


def _command() -> str:
    """The command line as it was given, folders shortened to their names."""
    words = ["tilestream", *sys.argv[1:]]
    return shlex.join(_short(word) for word in words)


def _short(word: str) -> str:
    kind, colon, rest = word.partition(":")
    if colon and "/" in rest:
        return f"{kind}:{Path(rest).name}"
    return Path(word).name if "/" in word else word


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU thread(s), {platform.machine()}"
