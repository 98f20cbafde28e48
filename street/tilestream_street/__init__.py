"""Procedural dashcam video of a street with exact labels and motion, for training, tests and demos."""

from tilestream_street.classes import CLASS_NAMES, IGNORE_LABEL, PALETTE
from tilestream_street.street import StreetFrame, SyntheticStreet
from tilestream_street.video import write_clip

__all__ = ["CLASS_NAMES", "IGNORE_LABEL", "PALETTE", "StreetFrame", "SyntheticStreet", "write_clip"]

__version__ = "0.1.0"
