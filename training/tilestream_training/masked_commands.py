"""The command ``tilestream train-masked``."""

from __future__ import annotations

from typing import Annotated

import typer

from tilestream.engine.lowering.program import LoweringError
from tilestream.engine.precision import choose_precision
from tilestream.messages import EngineError
from tilestream.models import ModelError, load_model
from tilestream.models.registry import read_weights_info, weights_path
from tilestream.terminal import say
from tilestream_training.augment import AugmentOptions
from tilestream_training.commands import open_all, parse_range, parse_size, play_out, prepare
from tilestream_training.datasets.base import DatasetError
from tilestream_training.masked_clips import STREET_FRAMES, load_streets
from tilestream_training.masked_trainer import MaskedOptions, MaskedTrainer
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
from tilestream_training.reports import public_name
from tilestream_training.sampling import load_source
from tilestream_training.trainer import TrainOptions


def train_masked(
    data: Annotated[
        list[str], typer.Option(help="KIND:PATH[@SHARE] of stills to drive through; may be repeated.")
    ],
    out: RunOption,
    start: Annotated[
        str, typer.Option(help="Model to start from: a name or a .safetensors file.")
    ] = "swiftnet_resnet18",
    teacher: Annotated[
        str | None, typer.Option(help="Model whose answers to whole frames are learned; default: --start.")
    ] = None,
    streets: Annotated[int, typer.Option(help="Synthetic streets of 40 frames to draw clips from too.")] = 12,
    street_share: Annotated[float, typer.Option(help="Share of the clips that are of a street.")] = 0.3,
    partial: Annotated[int, typer.Option(help="At most so many partial frames behind a whole one.")] = 4,
    keep: Annotated[
        str, typer.Option(help="MIN:MAX of the share of bins that a partial frame computes.")
    ] = "0.1:0.6",
    dense_weight: Annotated[
        float, typer.Option(help="Weight of the whole frame's loss; 1 is that of all partial ones.")
    ] = 0.5,
    steps: StepsOption = 400,
    batch: Annotated[int, typer.Option(help="Clips per step.")] = 2,
    crop: CropOption = "320x448",
    scale: ZoomOption = "0.9:1.3",
    learning_rate: RateOption = 3e-5,
    distillation: DistillationOption = 1.0,
    label_weight: Annotated[float, typer.Option(help="Weight of the true labels in the loss.")] = 1.0,
    noise: Annotated[
        float, typer.Option(help="Most noise added to frames, luma steps; the teacher sees none.")
    ] = 3.0,
    teacher_zoom: Annotated[
        float,
        typer.Option(
            help="The teacher also sees frames mirrored and so many times as large; 1: it does not."
        ),
    ] = 1.0,
    blend: Annotated[
        float,
        typer.Option(help="Share of the trained weights in what is written; the rest are the start's."),
    ] = 1.0,
    freeze: FreezeOption = None,
    test: TestOption = None,
    bin_size: Annotated[int, typer.Option(help="Side of a bin, pixels.")] = 64,
    seed: Annotated[int, typer.Option(help="Decides every clip and every bin.")] = 0,
    device: DeviceOption = "auto",
    precision: MixedPrecisionOption = "auto",
    threads: ThreadsOption = 0,
    pause_at: PauseOption = None,
) -> None:
    """Go on training a model on partial frames, as the engine computes them; writes its weights and card.

    The gate of the old weights does not fit the new ones: train it again with `tilestream train-gate`.
    """
    try:
        place = prepare(threads, seed, device)
        options = TrainOptions(
            steps=steps,
            batch=batch,
            learning_rate=learning_rate,
            warmup_steps=10,
            decay_share=0.5,
            ema_decay=0.99,
            distillation_weight=distillation,
            frozen=tuple(freeze or ()),
            seed=seed,
            precision=choose_precision(precision, place)[0],  # type: ignore[arg-type]
            device=str(place),
            augment=AugmentOptions(crop=parse_size(crop), scale=parse_range(scale), jitter=0.5),
        )
        masked = MaskedOptions(
            street_share,
            dense_weight,
            partial,
            parse_range(keep),
            bin_size,
            label_weight,
            noise,
            teacher_zoom,
            blend,
        )
        opened, tests = open_all(data, test, out / "stills")
        info = read_weights_info(weights_path(start))
        for name in (start, teacher or start):
            if read_weights_info(weights_path(name)).classes != opened[0][0].class_names:
                raise ModelError(f"{name} tells other classes apart than the data")
        sources = [load_source(dataset, share, len(info.classes)) for dataset, share in opened]
        network = load_model(start).requires_grad_(True)
        clips = load_streets(streets, out / "streets")
        tutor = load_model(teacher or start)
        trainer = MaskedTrainer(network, sources, clips, options, masked, out, len(info.classes), tutor)
    except (DatasetError, ModelError, EngineError, LoweringError, ValueError, OSError) as error:
        say(f"error: {error}", error=True)
        raise typer.Exit(1) from None
    names = [public_name(text) for text in data]
    also = (
        (f"{streets} synthetic streets of {STREET_FRAMES} frames, share {street_share:g}",) if streets else ()
    )
    play_out(trainer, pause_at, info.architecture, list(zip(names, opened, strict=True)), tests, also)
