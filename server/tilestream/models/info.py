"""What a model says of itself."""

from __future__ import annotations

from torch import nn

from tilestream.messages import ModelInfo


class ModelError(Exception):
    """A model is unknown or its weights do not fit; the message says what there is instead."""


def describe(
    model: nn.Module,
    name: str,
    classes: tuple[str, ...],
    palette: tuple[tuple[int, int, int], ...],
    description: str = "",
    reference_miou: float | None = None,
) -> ModelInfo:
    """The ``info`` of a network that has a ``stride``.

    ``classes``: class i is label value i. ``palette``: RGB 0..255, one per class. ``reference_miou``: of
    single frames, on data that the model's card names.
    """
    return ModelInfo(
        name=name,
        description=description,
        classes=classes,
        palette=palette,
        stride=int(model.stride),  # type: ignore[arg-type]
        parameters=sum(p.numel() for p in model.parameters()),
        reference_miou=reference_miou,
    )
