"""What the fake server answers with: its model, masks that follow from frame numbers, statuses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from tilestream_client import masks
from tilestream_client.info import Model
from tilestream_client.v1 import segmentation_pb2 as pb

MODEL = pb.Model(
    name="fake",
    description="labels from arithmetic",
    classes=[
        pb.LabelClass(value=0, name="road", color=0x804080),
        pb.LabelClass(value=1, name="sky", color=0x4682B4),
        pb.LabelClass(value=2, name="car", color=0x00008E),
    ],
    stride=32,
    parameters=1_000_000,
    reference_miou=0.5,
    is_default=True,
)


@dataclass
class Status:
    """A gRPC status to end a call with."""

    code: grpc.StatusCode
    message: str = "because"
    retry_after: float | None = None
    fields: dict[str, str] = field(default_factory=dict)
    reason: str = ""

    def trailers(self) -> tuple[tuple[str, bytes], ...]:
        details = []
        if self.retry_after is not None:
            nanos = round(self.retry_after * 1e9)
            delay = Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        if self.fields:
            bad = error_details_pb2.BadRequest()
            for name, problem in self.fields.items():
                bad.field_violations.add(field=name, description=problem)
            details.append(bad)
        if self.reason:
            details.append(error_details_pb2.ErrorInfo(reason=self.reason, domain="tilestream"))
        packed = []
        for detail in details:
            packed.append(any_pb2.Any())
            packed[-1].Pack(detail)
        status = status_pb2.Status(code=self.code.value[0], message=self.message, details=packed)
        return (("grpc-status-details-bin", status.SerializeToString()),)


def labels_for(frame_id: int, width: int, height: int) -> np.ndarray:
    """uint8 [height, width]: stripes that move on by one class per frame."""
    row = (frame_id + np.arange(width) // 8) % len(MODEL.classes)
    return np.broadcast_to(row.astype(np.uint8), (height, width)).copy()


def encode_mask(labels: np.ndarray, encoding: int) -> pb.Mask:
    height, width = labels.shape
    encoding = encoding or pb.MASK_ENCODING_PNG
    if encoding == pb.MASK_ENCODING_PNG:
        data = masks.encode_png(labels, Model.from_proto(MODEL).palette)
    else:
        data = encode_rle(labels) if encoding == pb.MASK_ENCODING_RLE else labels.tobytes()
    return pb.Mask(width=width, height=height, encoding=encoding, data=data)


def encode_rle(labels: np.ndarray) -> bytes:
    """The plain way, to check the fast decoder against."""
    out = bytearray()
    flat = labels.ravel().tolist()
    start = 0
    for index in range(1, len(flat) + 1):
        if index == len(flat) or flat[index] != flat[start]:
            out += varint(flat[start]) + varint(index - start)
            start = index
    return bytes(out)


def bin_account(width: int, height: int) -> pb.BinAccount:
    """Bins of 16 pixels over a computed image of this size; they computed 0 to 5 block units in turn."""
    rows, columns = -(-height // 16), -(-width // 16)
    count = rows * columns
    return pb.BinAccount(
        bin_size=16,
        columns=columns,
        rows=rows,
        units_computed=[index % 6 for index in range(count)],
        distortion=[0.5] * count,
        age=range(count),
        width=width,
        height=height,
        units_per_bin=5,
    )


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


async def abort(context: Any, status: Status) -> None:
    await context.abort(status.code, status.message, trailing_metadata=status.trailers())
