"""Fits the learned gate's network to examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from tilestream.engine.gates.risk_net import RiskNet

Examples = tuple[Tensor, Tensor]
"""Of one video: cells [n, channels, h, w] and shares of wrong pixels [n, h, w], float32."""

_BATCH = 16
_PEAK_RATE = 6e-3


def fit(videos: Sequence[Examples], classes: int, steps: int, seed: int, *, progress: bool = True) -> RiskNet:
    """Cross-entropy with the shares as soft targets. The same arguments give the same network."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    network = RiskNet(classes)
    optimizer = torch.optim.AdamW(network.parameters(), _PEAK_RATE / 2, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_RATE, steps)
    sizes = np.array([len(cells) for cells, _ in videos], dtype=np.float64)
    for _ in tqdm(range(steps), unit="step", disable=not progress, dynamic_ncols=True):
        cells, wrong = videos[random.choice(len(videos), p=sizes / sizes.sum())]
        chosen = torch.from_numpy(random.integers(0, len(cells), _BATCH))
        batch, target = cells[chosen], wrong[chosen]
        if random.random() < 0.5:
            batch, target = batch.flip(-1), target.flip(-1)
        loss = F.binary_cross_entropy_with_logits(network(batch), target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return network.eval()


def captured(scores: Tensor, wrong: Tensor, share: float, cells_per_bin: int = 4) -> float:
    """Share of all wrong pixels that lie in the ``share`` of bins with the highest scores of their frame."""
    bins = [F.avg_pool2d(maps[:, None], cells_per_bin, ceil_mode=True).flatten(1) for maps in (scores, wrong)]
    chosen = bins[0].topk(max(1, int(share * bins[0].shape[1])), dim=1).indices
    return float(bins[1].gather(1, chosen).sum() / bins[1].sum().clamp(min=1e-9))
