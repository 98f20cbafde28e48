"""Networks as ordinary nn.Modules, and the weights that are shipped with them."""

from tilestream.models.registry import ModelError, build_model, list_models, load_model, save_model

__all__ = ["ModelError", "build_model", "list_models", "load_model", "save_model"]
