"""Networks as ordinary nn.Modules, the weights that are shipped with them, and networks of other packages."""

from tilestream.models.info import ModelError, describe
from tilestream.models.registry import (
    build_model,
    list_models,
    list_plugins,
    load_model,
    save_model,
    weights_of,
)

__all__ = [
    "ModelError",
    "build_model",
    "describe",
    "list_models",
    "list_plugins",
    "load_model",
    "save_model",
    "weights_of",
]
