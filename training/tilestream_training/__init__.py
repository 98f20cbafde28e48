"""Training and evaluation: the commands train, train-masked, train-gate and eval of ``tilestream``."""

__version__ = "0.1.0"
