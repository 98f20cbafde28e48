"""Load public checkpoints: torchvision's ResNets and MobileNetV2 as encoders, the authors' DDRNet-23-slim.

Our modules carry the public parameter names, so importing means unwrapping, comparing and copying what
fits. Nothing is guessed: what was not copied is in the report.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tilestream.models.ddrnet import DDRNet
from tilestream.models.mobilenet import MobileNetV2Encoder
from tilestream.models.resnet import ResNetEncoder

WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which training scripts put the tensors
PREFIXES = ("module.", "model.")  # of DataParallel and of training wrappers

# Parts that are not in our modules: classifiers of ImageNet training, state of training wrappers.
RESNET_IGNORED = ("fc.",)
MOBILENET_IGNORED = ("classifier.", "features.18.", "conv.")  # the last 1x1 is "conv." in other packages
DDRNET_IGNORED = ("loss.", "down5.", "last_layer.", "linear.")
_COUNTER = "num_batches_tracked"  # unused at a fixed momentum, and absent from older checkpoints


class CheckpointError(Exception):
    """A checkpoint cannot be read or has nothing that fits; the message says why."""


@dataclass(frozen=True, slots=True)
class ShapeMismatch:
    """A tensor of the same name and another shape."""

    name: str
    checkpoint: tuple[int, ...]
    model: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} (checkpoint {_shape(self.checkpoint)}, model {_shape(self.model)})"


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of every tensor. ``str(report)`` is for people.

    ``matched``: copied. ``missing``: of the model, not in the checkpoint, left as they were.
    ``unexpected``: of the checkpoint, not in the model. ``mismatched_shapes``: left as they were.
    ``ignored``: of the checkpoint, known to have no place here (a classifier, say).
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched_shapes: tuple[ShapeMismatch, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every tensor of the model came from the checkpoint."""
        return not self.missing and not self.mismatched_shapes

    def __str__(self) -> str:
        total = len(self.matched) + len(self.missing) + len(self.mismatched_shapes)
        lines = [f"{len(self.matched)} of the model's {total} tensors loaded"]
        if not self.complete and len(self.matched) < total / 2:
            lines[0] += ": this looks like a checkpoint of another network"
        lines += _listing("missing in the checkpoint, left as they were", self.missing)
        shapes = tuple(map(str, self.mismatched_shapes))
        lines += _listing("of another shape, left as they were", shapes)
        lines += _listing("in the checkpoint only", self.unexpected)
        if self.ignored:
            lines.append(f"  {len(self.ignored)} not needed here: {', '.join(_groups(self.ignored))}")
        return "\n".join(lines)


def import_torchvision_resnet(encoder: ResNetEncoder, source: Path | Mapping[str, Any]) -> ImportReport:
    """Load a ResNet-18/34/50 in torchvision's naming into an encoder of the same depth.

    ``source``: a ``.pth`` / ``.pt`` / ``.safetensors`` file or what is in one. The classifier is ignored.
    Raises :class:`CheckpointError` where nothing fits; the encoder is then unchanged.
    """
    return import_state(encoder, source, RESNET_IGNORED)


def import_torchvision_mobilenetv2(
    encoder: MobileNetV2Encoder, source: Path | Mapping[str, Any]
) -> ImportReport:
    """Load a MobileNetV2 in torchvision's naming, of today or of before 0.4, into an encoder.

    ``source``: a ``.pth`` / ``.pt`` / ``.safetensors`` file or what is in one. The last 1x1 and the
    classifier are ignored. Raises :class:`CheckpointError` where nothing fits; the encoder is then unchanged.
    """
    state = unwrap(read_checkpoint(source) if isinstance(source, Path) else source)
    return import_state(encoder, nested_blocks(state), MOBILENET_IGNORED)


def nested_blocks(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """MobileNetV2's tensors under today's names, where a block's layers were numbered through before.

    ``features.2.conv.3.weight`` (of 0 to 7) becomes ``features.2.conv.1.0.weight``; other names stay.
    """
    flat = re.compile(r"(.*\bfeatures\.\d+\.conv\.)(\d+)(\.[a-z_]+)")
    found = {name: match for name in state if (match := flat.fullmatch(name)) is not None}
    depth: dict[str, int] = {}
    for match in found.values():
        depth[match[1]] = max(depth.get(match[1], 0), int(match[2]))
    result = {}
    for name, tensor in state.items():
        match = found.get(name)
        # Two or three convolutions: layers 0 to 4 or 0 to 7. Nested, the highest number is 2 or 3.
        if match is not None and depth[match[1]] >= 4:
            layer, last = int(match[2]), depth[match[1]] - 1  # the last convolution and its norm stand alone
            place = f"{layer // 3}.{layer % 3}" if layer < last else str(last // 3 + layer - last)
            name = f"{match[1]}{place}{match[3]}"
        result[name] = tensor
    return result


def import_ddrnet(model: DDRNet, source: Path | Mapping[str, Any]) -> ImportReport:
    """Load a public DDRNet-23-slim checkpoint (Cityscapes, CamVid or ImageNet).

    A head for another number of classes is left as it is and reported; so is the auxiliary head, which not
    all checkpoints have. Raises :class:`CheckpointError` where nothing fits; the model is then unchanged.
    """
    return import_state(model, source, DDRNET_IGNORED)


def import_state(
    module: torch.nn.Module, source: Path | Mapping[str, Any], ignored: Iterable[str] = ()
) -> ImportReport:
    """Copy every tensor whose name and shape fit; ``ignored``: name prefixes that need no mention.

    Raises :class:`CheckpointError` where nothing fits, before anything was changed.
    """
    state = unwrap(read_checkpoint(source) if isinstance(source, Path) else source)
    own: dict[str, Tensor] = module.state_dict()
    prefixes = tuple(ignored)
    matched, mismatched = [], []
    for name, tensor in own.items():
        if name in state:
            if state[name].shape == tensor.shape:
                matched.append(name)
            else:
                mismatched.append(ShapeMismatch(name, tuple(state[name].shape), tuple(tensor.shape)))
    if all(name.endswith(_COUNTER) for name in matched):
        raise CheckpointError(
            f"nothing in the checkpoint fits: it has {_examples(state)}; the model expects {_examples(own)}"
        )
    with torch.no_grad():
        for name in matched:
            own[name].copy_(state[name])
    others = [name for name in state if name not in own]
    return ImportReport(
        matched=tuple(matched),
        missing=tuple(name for name in own if name not in state and not name.endswith(_COUNTER)),
        unexpected=tuple(name for name in others if not name.startswith(prefixes)),
        mismatched_shapes=tuple(mismatched),
        ignored=tuple(name for name in others if name.startswith(prefixes)),
    )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint file; never runs code from it. Raises :class:`CheckpointError`."""
    if not path.is_file():
        raise CheckpointError(f"{path} is not there")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is damaged or holds more than tensors and plain values, and is refused, because loading "
            f"it could run code. Save its state dict alone and import that. ({_first_line(error)})"
        ) from error
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {_first_line(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state dict")
    return content


def unwrap(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors by plain name: out of ``state_dict`` and the like, without ``module.`` and ``model.``.

    Raises :class:`CheckpointError` where there are no tensors.
    """
    for key in WRAPPERS:
        inner = content.get(key)
        if isinstance(inner, Mapping):
            return unwrap(inner)
    state = {_bare(str(name)): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        keys = ", ".join(str(key) for key in list(content)[:5]) or "nothing"
        raise CheckpointError(
            f"no tensors in the checkpoint (it has {keys}), also not in {', '.join(WRAPPERS)}"
        )
    return state


def _bare(name: str) -> str:
    """Without prefixes, however many times training wrappers were nested."""
    while name.startswith(PREFIXES):
        name = name.partition(".")[2]
    return name


def _listing(title: str, names: tuple[str, ...], limit: int = 8) -> list[str]:
    if not names:
        return []
    more = [f"    and {len(names) - limit} more"] if len(names) > limit else []
    return [f"  {len(names)} {title}:", *(f"    {name}" for name in names[:limit]), *more]


def _groups(names: Iterable[str]) -> list[str]:
    """The modules that the names belong to: ``fc.*``."""
    return list(dict.fromkeys(f"{name.partition('.')[0]}.*" for name in names))


def _examples(names: Iterable[str]) -> str:
    listed = [name for name in names if not name.endswith(_COUNTER)]
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
