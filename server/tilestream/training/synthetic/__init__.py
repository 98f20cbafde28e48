"""Procedural dashcam video of a street with exact labels and motion, for training, tests and demos."""

from tilestream.training.synthetic.classes import CLASS_NAMES, IGNORE_LABEL, PALETTE
from tilestream.training.synthetic.street import StreetFrame, SyntheticStreet
from tilestream.training.synthetic.video import write_clip

__all__ = ["CLASS_NAMES", "IGNORE_LABEL", "PALETTE", "StreetFrame", "SyntheticStreet", "write_clip"]
