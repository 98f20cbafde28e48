"""The account of the bins of one frame: what the network computed where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tilestream_client.errors import ProtocolError
from tilestream_client.v1 import segmentation_pb2 as pb


@dataclass(frozen=True, slots=True, eq=False)
class Bins:
    """The account of every bin; a bin is a square of ``bin_size`` pixels of the computed image.

    The grid begins at the top left; its last column and row may reach beyond the image.

    units_computed: uint32 [rows, columns], block units computed. distortion: float32 [rows, columns],
    luma steps 0..255 since the bin was last computed. age: uint32 [rows, columns], frames since then,
    0 = in this one. units_per_bin: block units that every bin has. size: (width, height) of the
    computed image in pixels.
    """

    bin_size: int
    units_computed: npt.NDArray[np.uint32]
    distortion: npt.NDArray[np.float32]
    age: npt.NDArray[np.uint32]
    units_per_bin: int
    size: tuple[int, int]

    @property
    def depth(self) -> npt.NDArray[np.float32]:
        """float32 [rows, columns]: the share of its block units that each bin computed, 0..1."""
        return (self.units_computed / np.float32(self.units_per_bin)).astype(np.float32)

    def edges(self, width: int, height: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Where the bins lie in a picture of the whole frame, of any size.

        Returns intp [columns + 1] and [rows + 1]: column c covers the pixels x[c] to x[c + 1] - 1, likewise
        the rows; 0 is first, ``width`` and ``height`` are last.
        """
        rows, columns = self.units_computed.shape
        return _edges(columns, self.bin_size * width / self.size[0], width), _edges(
            rows, self.bin_size * height / self.size[1], height
        )


def from_proto(message: pb.BinAccount) -> Bins:
    """From the generated message. Raises ProtocolError where its parts do not fit each other."""
    shape = (message.rows, message.columns)
    _check_grid(message)
    try:
        units = np.array(message.units_computed, np.uint32).reshape(shape)
        distortion = np.array(message.distortion, np.float32).reshape(shape)
        age = np.array(message.age, np.uint32).reshape(shape)
    except ValueError as error:
        raise ProtocolError(f"the account of the bins is not {shape[0]}x{shape[1]}: {error}") from error
    per_bin = message.units_per_bin
    if not per_bin or units.max() > per_bin:
        raise ProtocolError(f"a bin computed {units.max()} block units of {per_bin}")
    return Bins(message.bin_size, units, distortion, age, per_bin, (message.width, message.height))


def _check_grid(message: pb.BinAccount) -> None:
    """Just so many bins cover an image of this size, which is not empty."""
    side = message.bin_size
    sizes = ((message.width, message.columns), (message.height, message.rows))
    if not all(max(0, count - 1) * side < pixels <= count * side for pixels, count in sizes):
        grid = f"{message.columns}x{message.rows} bins of {side} pixels"
        raise ProtocolError(f"{grid} do not fit an image of {message.width}x{message.height}")


def _edges(count: int, step: float, end: int) -> npt.NDArray[np.intp]:
    edges = np.minimum(np.rint(np.arange(count + 1) * step), end).astype(np.intp)
    edges[-1] = end
    return edges
