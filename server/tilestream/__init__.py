"""tilestream: streaming video segmentation that computes as little as it may."""

__version__ = "0.1.0"
