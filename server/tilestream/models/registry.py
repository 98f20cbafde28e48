"""Which networks there are, and how to get one with its weights.

A weight file is a safetensors file whose metadata says which architecture it belongs to and which
classes it tells apart, so that a file alone is enough to load a model. Other packages add networks by
entry points: see ``plugins``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from tilestream.models.ddrnet import ddrnet23_slim
from tilestream.models.info import ModelError, describe
from tilestream.models.plugins import load_plugin, plugin_folder, plugin_names
from tilestream.models.swiftnet import swiftnet_mobilenetv2, swiftnet_resnet18

WEIGHTS_DIRECTORY = Path(__file__).parent / "weights"


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network that can be built for any number of classes."""

    build: Callable[..., nn.Module]  # of the number of classes and, where it can be chosen, ``width=``
    description: str
    has_width: bool = False  # whether the decoder's channels can be chosen


ARCHITECTURES = {
    "swiftnet_resnet18": Architecture(
        swiftnet_resnet18, "SwiftNet over ResNet-18: the default, accurate", has_width=True
    ),
    "swiftnet_mobilenetv2": Architecture(
        swiftnet_mobilenetv2, "SwiftNet over MobileNetV2: a quarter of the work, as accurate", has_width=True
    ),
    "ddrnet23_slim": Architecture(ddrnet23_slim, "DDRNet-23-slim: a third of the work, less accurate"),
}
DEFAULT_MODEL = "swiftnet_resnet18"


@dataclass(frozen=True, slots=True)
class WeightsInfo:
    """The metadata of a weight file."""

    architecture: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    reference_miou: float | None = None  # single frame, on the data that the model card names
    width: int | None = None  # channels of the decoder; None: what the architecture has by default


def list_models() -> tuple[str, ...]:
    """Names of the models whose weights are shipped, the default one first."""
    shipped = [name for name in ARCHITECTURES if (WEIGHTS_DIRECTORY / f"{name}.safetensors").is_file()]
    return tuple(sorted(shipped, key=lambda name: name != DEFAULT_MODEL))


def list_plugins() -> tuple[str, ...]:
    """Names of the models that other installed packages add."""
    return tuple(name for name in plugin_names() if name not in list_models())


def build_model(name: str, num_classes: int, width: int | None = None) -> nn.Module:
    """A network with random weights.

    ``width``: channels of the decoder, where the architecture lets them be chosen; None: its default. Raises
    :class:`ModelError` for an unknown name and for a width that cannot be.
    """
    if name not in ARCHITECTURES:
        raise ModelError(f"unknown architecture {name!r}; there are {', '.join(ARCHITECTURES)}")
    architecture = ARCHITECTURES[name]
    if width is None:
        return architecture.build(num_classes)
    if not architecture.has_width or width < 1:
        able = ", ".join(name for name, other in ARCHITECTURES.items() if other.has_width)
        raise ModelError(f"{name} cannot have a decoder of {width} channels; at least 1, of: {able}")
    return architecture.build(num_classes, width=width)


def load_model(name: str = DEFAULT_MODEL) -> nn.Module:
    """A trained network in evaluation mode, fp32, on the CPU.

    ``name``: a shipped model (:func:`list_models`), one of another package (:func:`list_plugins`) or the path
    of a ``.safetensors`` file that ``tilestream train`` wrote. The module maps float [N, 3, H, W] (RGB in
    0..1, normalised by its ``mean`` and ``std``; H and W multiples of its ``stride``) to logits
    [N, classes, H, W]; its ``info`` is the :class:`~tilestream.messages.ModelInfo`, and :func:`weights_of`
    tells its file. Raises :class:`ModelError`.
    """
    if name in list_plugins():
        return load_plugin(name)
    path = weights_path(name)
    info = read_weights_info(path)
    model = build_model(info.architecture, len(info.classes), info.width)
    with safe_open(path, framework="pt") as file:
        state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 (not a dict)
    expected = {key for key in model.state_dict() if not key.endswith("num_batches_tracked")}
    if expected != state.keys():
        difference = ", ".join(sorted(expected ^ state.keys())[:4])
        raise ModelError(f"{path} does not fit {info.architecture}: differing tensors {difference} ...")
    try:
        model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ModelError(f"{path} does not fit {info.architecture}: {error}") from error
    shipped = path.parent == WEIGHTS_DIRECTORY
    description = ARCHITECTURES[info.architecture].description if shipped else info.architecture
    model.info = describe(  # type: ignore[assignment]
        model, path.stem, info.classes, info.palette, description, info.reference_miou
    )
    model.weights = path  # type: ignore[assignment]
    return model.eval().requires_grad_(False)


def weights_of(model: nn.Module) -> str | None:
    """The weight file that :func:`load_model` took a network from; None for another network."""
    path = getattr(model, "weights", None)
    return str(path) if isinstance(path, Path) else None


def save_model(model: nn.Module, path: Path, info: WeightsInfo) -> None:
    """Write the weights of ``model`` as fp16 safetensors with their metadata."""
    state = {
        key: value.detach().to("cpu", torch.float16).contiguous()
        for key, value in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    metadata = {
        "format": "pt",
        "architecture": info.architecture,
        "classes": json.dumps(info.classes),
        "palette": json.dumps(info.palette),
    }
    if info.reference_miou is not None:
        metadata["reference_miou"] = f"{info.reference_miou:.4f}"
    if info.width is not None:
        metadata["width"] = str(info.width)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, metadata)


def weights_path(name: str) -> Path:
    """The file of a shipped model or, for a path, the path. Raises :class:`ModelError`.

    Of another package's model: where a file would be, beside its module; there need not be one.
    """
    if name in list_plugins():
        return plugin_folder(name) / f"{name}.safetensors"
    path = Path(name) if name.endswith(".safetensors") else WEIGHTS_DIRECTORY / f"{name}.safetensors"
    if not path.is_file():
        others = f", other packages have {', '.join(list_plugins())}" if list_plugins() else ""
        raise ModelError(
            f"unknown model {name!r}; shipped models are {', '.join(list_models()) or '(none)'}{others}; "
            "or give the path of a .safetensors file"
        )
    return path


def read_weights_info(path: Path) -> WeightsInfo:
    """The metadata of a weight file. Raises :class:`ModelError`."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    except SafetensorError as error:
        raise ModelError(f"{path} is not a safetensors file: {error}") from error
    try:
        info = WeightsInfo(
            architecture=metadata["architecture"],
            classes=tuple(json.loads(metadata["classes"])),
            palette=tuple((int(r), int(g), int(b)) for r, g, b in json.loads(metadata["palette"])),
            reference_miou=float(metadata["reference_miou"]) if "reference_miou" in metadata else None,
            width=int(metadata["width"]) if "width" in metadata else None,
        )
        if len(info.palette) != len(info.classes):
            raise ValueError(f"{len(info.classes)} classes but {len(info.palette)} colours")
        return info
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{path} lacks the metadata that `tilestream train` writes ({error})") from error
