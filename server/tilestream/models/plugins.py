"""Networks of other packages, by entry points of the group ``tilestream.models``.

``NAME = "module:function"``: called without arguments, it returns the network with all that
:func:`~tilestream.models.load_model` says of its result: an ``nn.Module`` with ``mean``, ``std``, ``stride``
and ``info`` (:func:`~tilestream.models.describe`). Whether there are weights, and where, is its own business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from torch import nn

from tilestream.messages import ModelInfo
from tilestream.models.info import ModelError

GROUP = "tilestream.models"


def plugin_names() -> tuple[str, ...]:
    """What other packages offer, in alphabetical order. Imports none of them."""
    return tuple(sorted({entry.name for entry in entry_points(group=GROUP)}))


def load_plugin(name: str) -> nn.Module:
    """The network of that name, in evaluation mode; its ``info`` has that name, too.

    Raises :class:`ModelError`, which names the package, for whatever is wrong with it.
    """
    entry = _entry(name)
    try:
        model = entry.load()()
    except MemoryError:
        raise
    except Exception as error:  # the code is another's: it may raise anything
        raise ModelError(f"{_called(entry)} cannot be loaded: {type(error).__name__}: {error}") from error
    if faults := list(_faults(model)):
        raise ModelError(f"{_called(entry)} does not fit: {'; '.join(faults)}")
    model.info = replace(model.info, name=name)
    network: nn.Module = model.eval().requires_grad_(False)
    return network


def plugin_folder(name: str) -> Path:
    """The folder of the module with that network. Raises :class:`ModelError`."""
    entry = _entry(name)
    try:
        spec = find_spec(entry.module)
    except Exception as error:  # packages above it are imported
        raise ModelError(f"{_called(entry)} cannot be loaded: {type(error).__name__}: {error}") from error
    if spec is None or spec.origin is None:
        raise ModelError(f"{_called(entry)} cannot be loaded: there is no module {entry.module}")
    return Path(spec.origin).parent


def _entry(name: str) -> EntryPoint:
    found = list(entry_points(group=GROUP, name=name))
    if not found:
        raise ModelError(f"no package has a model {name!r}; there are {', '.join(plugin_names()) or 'none'}")
    if len(found) > 1:
        raise ModelError(f"several packages have a model {name!r}: {', '.join(map(_owner, found))}")
    return found[0]


def _faults(model: object) -> Iterator[str]:
    """In words, what a result of :func:`load_model` has and this has not."""
    if not isinstance(model, nn.Module):
        yield f"it is a {type(model).__name__}, not an nn.Module"
        return
    for name in ("mean", "std"):
        if not _is_rgb(getattr(model, name, None)):
            yield f"{name} has to be three numbers, of red, green and blue in 0..1"
    stride, info = getattr(model, "stride", None), getattr(model, "info", None)
    if not isinstance(stride, int) or stride < 1:
        yield "stride has to be a whole number of pixels"
    if not isinstance(info, ModelInfo):
        yield "info has to be a ModelInfo (tilestream.models.describe makes one)"
    elif not info.classes or len(info.classes) != len(info.palette):
        yield f"info has {len(info.classes)} classes and {len(info.palette)} colours"


def _is_rgb(value: object) -> bool:
    return isinstance(value, Sequence) and len(value) == 3 and all(isinstance(v, float | int) for v in value)


def _called(entry: EntryPoint) -> str:
    return f"model {entry.name!r} of {_owner(entry)}"


def _owner(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module
