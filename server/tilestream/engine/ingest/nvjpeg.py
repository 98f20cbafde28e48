"""NVIDIA's JPEG decoder, by way of torchvision, which the server does without where it is not installed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import simplejpeg
import torch
from torch import Tensor

logger = logging.getLogger(__name__)


class Refused(Exception):  # noqa: N818 (the name says it)
    """A batch of which something could not be decoded; nothing is known of the others."""


class JpegDecoder(Protocol):
    """Decodes JPEGs on a device."""

    def __call__(self, batch: Sequence[bytes | memoryview]) -> list[Tensor]:
        """Of each its pixels, uint8 [3, H, W] RGB at its own size, on the device. Raises :class:`Refused`."""


class NvJpeg:
    """Decodes on a CUDA device, all of a batch in one call. The host waits until that is done."""

    def __init__(self, device: torch.device) -> None:
        """Raises ImportError, OSError or RuntimeError where there is no torchvision that fits PyTorch."""
        from torchvision.io import ImageReadMode, decode_jpeg

        self._device, self._mode, self._decode = device, ImageReadMode.RGB, decode_jpeg

    def __call__(self, batch: Sequence[bytes | memoryview]) -> list[Tensor]:
        # The hardware decoder writes at once, whatever is queued on its stream, and the memory it gets may be
        # some that the host has let go of but that kernels still read: they have to be through.
        torch.cuda.current_stream(self._device).synchronize()
        data = [torch.frombuffer(_writable(each), dtype=torch.uint8) for each in batch]
        try:
            return self._decode(data, mode=self._mode, device=self._device)
        except RuntimeError as error:
            torch.cuda.synchronize(self._device)  # what was begun writes into memory that is free now
            if "out of memory" in str(error):
                raise torch.OutOfMemoryError(str(error)) from error
            raise Refused(str(error)) from error


def _writable(data: bytes | memoryview) -> bytearray | memoryview:
    """The same where it can be written to, as PyTorch wants it; else a copy."""
    return data if isinstance(data, memoryview) and not data.readonly else bytearray(data)


def find_decoder(device: torch.device) -> JpegDecoder | None:
    """The decoder of a device, made ready; None where there is none, and the log says what to install."""
    if device.type != "cuda":
        return None
    problem: Any
    try:
        decoder = NvJpeg(device)
        decoder([simplejpeg.encode_jpeg(np.zeros((64, 64, 3), np.uint8))])  # it takes its memory now
    except (ImportError, OSError, RuntimeError, Refused) as error:
        problem = error
    else:
        return decoder
    logger.warning(
        "frames are decoded on the host, since torchvision with nvJPEG cannot be used: %s "
        "(pip install 'tilestream[cuda]' has the one that belongs to this PyTorch)",
        problem,
    )
    return None
