"""The pictures of a step, whichever way they come, as tensors on the device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tilestream.engine.ingest.host import decode_on_host
from tilestream.engine.ingest.nvjpeg import JpegDecoder, Refused, find_decoder
from tilestream.engine.ingest.resize import Resizer
from tilestream.messages import Codec, Failure, Picture, UInt8Array


class Ingest:
    """Decodes on the device what that takes, and uploads the rest. Not thread-safe.

    ``takes``: codecs that the device decodes, of pictures that are plain (``media.jpeg_plain``). What its
    decoder refuses is decoded on the host and uploaded, and costs nothing but time.
    """

    def __init__(self, device: torch.device, decoder: JpegDecoder | None = None) -> None:
        """``decoder``: by default the device's own, if it has one."""
        self.device = device
        self._decoder = decoder or find_decoder(device)
        self.takes: tuple[Codec, ...] = (Codec.JPEG,) if self._decoder is not None else ()
        self._resize = Resizer(device)

    def decode(self, pictures: Sequence[Picture]) -> list[Tensor | Failure]:
        """uint8 [3, H, W] RGB at compute size, on the device, one per picture, or why it cannot be used.

        Strides are free, and tensors of one size may be views of one another's memory; on the CPU they are
        views of the pictures' pixels. The host waits only where something is decoded on the device.
        """
        done: dict[int, Tensor | Failure] = dict(self._decode_on_device(pictures))
        uploads: dict[int, UInt8Array] = {}
        for index, picture in enumerate(pictures):
            if index not in done:
                on_host = decode_on_host(picture)
                if isinstance(on_host, Failure):
                    done[index] = on_host
                elif on_host.pixels is not None:
                    uploads[index] = on_host.pixels
        done |= self._upload(uploads)
        return [done[index] for index in range(len(pictures))]

    def _decode_on_device(self, pictures: Sequence[Picture]) -> dict[int, Tensor]:
        """What the device's decoder does not refuse, at compute size, by its place among ``pictures``."""
        encoded = [
            index
            for index, picture in enumerate(pictures)
            if picture.pixels is None and picture.data and picture.codec in self.takes
        ]
        done: dict[int, Tensor] = {}
        to_resize: dict[tuple[tuple[int, int], tuple[int, int]], list[int]] = defaultdict(list)
        found = self._decode([pictures[index].data for index in encoded])
        for index, pixels in zip(encoded, found, strict=True):
            size, compute = (pictures[index].width, pictures[index].height), pictures[index].compute
            if pixels is None or pixels.shape != (3, size[1], size[0]):
                continue
            done[index] = pixels
            if size != compute:
                to_resize[size, compute].append(index)
        for (_, compute), indices in to_resize.items():
            resized = self._resize([done[index] for index in indices], compute)
            done |= dict(zip(indices, resized, strict=True))
        return done

    def _decode(self, batch: list[bytes | memoryview]) -> list[Tensor | None]:
        """In one call; where something is refused in halves, until what it is stands alone: None."""
        if not batch or self._decoder is None:
            return [None] * len(batch)
        try:
            return list(self._decoder(batch))
        except Refused:
            if len(batch) == 1:
                return [None]
        middle = len(batch) // 2
        return self._decode(batch[:middle]) + self._decode(batch[middle:])

    def _upload(self, images: Mapping[int, UInt8Array]) -> dict[int, Tensor]:
        """Images uint8 [H, W, 3] as tensors [3, H, W] on the device; those of one size in one copy."""
        if self.device.type == "cpu":
            arrays = {index: np.require(image, requirements=["C", "W"]) for index, image in images.items()}
            return {index: torch.from_numpy(array).permute(2, 0, 1) for index, array in arrays.items()}
        by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, image in images.items():
            by_size[image.shape].append(index)
        uploaded: dict[int, Tensor] = {}
        for shape, indices in by_size.items():
            pinned = torch.empty((len(indices), *shape), dtype=torch.uint8, pin_memory=True)
            np.stack([images[index] for index in indices], out=pinned.numpy())
            batch = pinned.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
            uploaded |= dict(zip(indices, batch, strict=True))
        return uploaded
