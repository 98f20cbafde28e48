"""tilestream: streaming video segmentation that computes only what changed."""

__version__ = "0.1.0"
