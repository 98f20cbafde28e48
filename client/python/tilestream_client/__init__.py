"""Client of tilestream: send video, get label masks back.

>>> from tilestream_client import Client
>>> with Client("localhost:50051") as client:              # doctest: +SKIP
...     for result in client.stream("drive.mp4"):
...         if result.ok:
...             print(result.frame_id, result.labels.shape, result.reuse.block_drop_rate)

``Client`` blocks, ``AsyncClient`` is for asyncio; both give a stream that yields one ``Result`` per
frame. ``errors`` lists what can go wrong, ``sources`` where frames come from.
"""

from tilestream_client._version import __version__
from tilestream_client.async_client import AsyncClient
from tilestream_client.async_stream import AsyncStream
from tilestream_client.bins import Bins
from tilestream_client.client import Client
from tilestream_client.config import FrameCodec, MaskEncoding, QueuePolicy, StreamConfig
from tilestream_client.errors import (
    AccessDenied,
    ConnectionFailed,
    ConnectionLost,
    FieldError,
    InvalidConfig,
    MaskError,
    MessageTooLarge,
    ProtocolError,
    ServerBusy,
    ServerDraining,
    ServerError,
    SessionClosed,
    SourceError,
    TilestreamError,
    TlsFailed,
)
from tilestream_client.findings import Box, ClassArea, Event, Instance, RegionAreas
from tilestream_client.info import Draining, LabelClass, Limits, Model, ServerInfo, Session, SessionInfo
from tilestream_client.live import LivePackets
from tilestream_client.outputs import Outputs, Region, Rule
from tilestream_client.result import EncodedMask, FrameStatus, Result, ReuseStats, Times
from tilestream_client.sources import Camera, Frame, ImageFolder, LiveVideo, VideoFile, VideoPackets, paced
from tilestream_client.stream import Stream
from tilestream_client.tls import Tls

__all__ = [
    "AccessDenied",
    "AsyncClient",
    "AsyncStream",
    "Bins",
    "Box",
    "Camera",
    "ClassArea",
    "Client",
    "ConnectionFailed",
    "ConnectionLost",
    "Draining",
    "EncodedMask",
    "Event",
    "FieldError",
    "Frame",
    "FrameCodec",
    "FrameStatus",
    "ImageFolder",
    "Instance",
    "InvalidConfig",
    "LabelClass",
    "Limits",
    "LivePackets",
    "LiveVideo",
    "MaskEncoding",
    "MaskError",
    "MessageTooLarge",
    "Model",
    "Outputs",
    "ProtocolError",
    "QueuePolicy",
    "Region",
    "RegionAreas",
    "Result",
    "ReuseStats",
    "Rule",
    "ServerBusy",
    "ServerDraining",
    "ServerError",
    "ServerInfo",
    "Session",
    "SessionClosed",
    "SessionInfo",
    "SourceError",
    "Stream",
    "StreamConfig",
    "TilestreamError",
    "Times",
    "Tls",
    "TlsFailed",
    "VideoFile",
    "VideoPackets",
    "__version__",
    "paced",
]
