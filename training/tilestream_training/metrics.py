"""Mean intersection over union from one confusion matrix over all frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tilestream_training.datasets.base import UInt8Array


class ConfusionMatrix:
    """Counts of (true class, predicted class); void pixels do not count."""

    def __init__(self, num_classes: int) -> None:
        self.counts: npt.NDArray[np.int64] = np.zeros((num_classes, num_classes), dtype=np.int64)

    def add(self, truth: UInt8Array, prediction: UInt8Array) -> None:
        """Add one frame: two uint8 [H, W]; pixels whose true label is outside 0..classes-1 are ignored.

        Raises ValueError for different sizes and for a prediction that is no class.
        """
        n = len(self.counts)
        if truth.shape != prediction.shape:
            raise ValueError(f"truth is {truth.shape} but prediction is {prediction.shape}")
        valid = truth < n
        if prediction[valid].size and prediction[valid].max() >= n:
            raise ValueError(f"prediction holds {prediction[valid].max()}, but there are {n} classes")
        pairs = truth[valid].astype(np.int64) * n + prediction[valid]
        self.counts += np.bincount(pairs, minlength=n * n).reshape(n, n)

    def iou(self) -> npt.NDArray[np.float64]:
        """Intersection over union of each class, float [C]; NaN for a class that never occurs."""
        hit = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - hit
        iou: npt.NDArray[np.float64] = np.full(len(hit), np.nan)
        np.divide(hit, union, out=iou, where=union > 0)
        return iou

    def miou(self) -> float:
        """Mean of the per-class IoU over the classes that occur, 0..1."""
        iou = self.iou()
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")
