"""What teachers say of every still, made once and kept, so that learning from them costs no time in training.

The mean of several networks, scales and the mirror knows more than each of them (Hinton et al., "Distilling
the Knowledge in a Neural Network", arXiv 1503.02531, for learning from it).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from tilestream_training.datasets.base import Sample, UInt8Array
from tilestream_training.stills import SOFT_STRIDE

SCALES = (0.8, 1.0, 1.33)

SoftLabels = npt.NDArray[np.float16]


def soft_labels(
    teachers: Sequence[nn.Module],
    samples: Sequence[Sample],
    folder: Path,
    device: torch.device,
    scales: Sequence[float] = SCALES,
) -> list[SoftLabels]:
    """Of every still, float16 [C, ceil(h / 4), ceil(w / 4)]: the teachers' mean probabilities.

    ``folder`` keeps them, each by the teachers' weights, the scales and the picture: what is there is not
    made again, and an interruption loses one still.
    """
    networks = [teacher.to(device).eval() for teacher in teachers]
    asked = _digest_of(networks, scales)
    folder.mkdir(parents=True, exist_ok=True)
    result = []
    for sample in tqdm(samples, desc="soft labels", unit="still", dynamic_ncols=True):
        found = asked.copy()
        found.update(repr(sample.image.shape).encode() + sample.image.tobytes())
        path = folder / f"{found.hexdigest()[:24]}.npy"
        if not path.is_file():
            part = path.with_suffix(".part")
            with part.open("wb") as file:
                np.save(file, answer(networks, sample.image, device, scales).half().cpu().numpy())
            part.replace(path)
        result.append(np.load(path))
    return result


@torch.inference_mode()
def answer(
    networks: Sequence[nn.Module], image: UInt8Array, device: torch.device, scales: Sequence[float]
) -> Tensor:
    """float32 [C, ceil(h / 4), ceil(w / 4)]: probabilities for an image, uint8 [H, W, 3] RGB."""
    height, width = image.shape[:2]
    total: list[Tensor] = []
    for scale in scales:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        pixels = torch.from_numpy(np.ascontiguousarray(resized)).permute(2, 0, 1)[None].to(device) / 255.0
        for network in networks:
            found = _both_ways(network, pixels)
            total.append(F.interpolate(found, (height, width), mode="bilinear", align_corners=False))
    mean = torch.stack(total).mean(dim=0)
    pad = (0, -width % SOFT_STRIDE, 0, -height % SOFT_STRIDE)
    return F.avg_pool2d(F.pad(mean, pad, mode="replicate"), SOFT_STRIDE)[0]


def _both_ways(network: nn.Module, pixels: Tensor) -> Tensor:
    """Mean probabilities [1, C, h, w] of a picture and its mirror image, each padded as the engine pads."""
    mean, std = (pixels.new_tensor(values).view(1, 3, 1, 1) for values in (network.mean, network.std))
    stride, (height, width) = int(network.stride), pixels.shape[2:]  # type: ignore[arg-type]
    x = (torch.cat([pixels, pixels.flip(3)]) - mean) / std
    logits = network(F.pad(x, (0, -width % stride, 0, -height % stride)))
    plain, mirrored = logits[..., :height, :width].float().softmax(dim=1).split(1)
    return (plain + mirrored.flip(3)) / 2


def _digest_of(networks: Sequence[nn.Module], scales: Sequence[float]) -> hashlib._Hash:
    found = hashlib.sha256(repr(tuple(scales)).encode())
    for network in networks:
        for name, value in network.state_dict().items():
            found.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return found
