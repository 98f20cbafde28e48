"""An engine that takes JPEGs: what is checked before it gets them, and what it finds itself."""

import threading

import numpy as np

from support.fake_engine import FakeEngine, fake_model
from support.frames import decode_png, encode, jpeg, photo
from support.server import running
from tilestream.messages import Codec
from tilestream.v1 import segmentation_pb2 as pb

PALETTE = fake_model().palette


class Decoding(FakeEngine):
    """Remembers the pictures that it gets."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        super().__init__(gate, takes=(Codec.JPEG,))
        self.pictures = []

    def step(self, plan):
        self.pictures += [frame.picture for frame, _ in plan.frames]
        return super().step(plan)


async def test_it_gets_what_was_sent_and_the_client_gets_the_same_masks():
    data = jpeg(5, 640, 480)
    answers = []
    for engine in (Decoding(), FakeEngine()):
        async with running(engine, max_compute_pixels=10_000) as r:
            stream = await r.open(include_confidence=True)
            await stream.frame(0, data)
            result = await stream.result()
            assert result.status == pb.FRAME_STATUS_OK
            assert (result.mask.width, result.mask.height) == (640, 480)
            assert np.all(decode_png(result.mask.data, PALETTE) == 5)
            answers.append((result.mask, result.confidence, result.reuse))
            if isinstance(engine, Decoding):
                (picture,) = engine.pictures
                assert (picture.data, picture.pixels, picture.codec) == (data, None, Codec.JPEG)
                assert (picture.width, picture.height) == (640, 480)
                assert picture.compute[0] * picture.compute[1] <= 10_000
    assert answers[0] == answers[1]


async def test_what_the_header_tells_never_reaches_it():
    good = jpeg()
    cut, comment = good[: good.index(b"\xff\xda")], b"no image"
    async with running(Decoding(), max_frame_bytes=20_000, max_frame_side=500) as r:
        stream = await r.open()
        sent = [b"", comment, cut, bytes(30_000), jpeg(width=501), good]
        for frame_id, data in enumerate(sent):
            await stream.frame(frame_id, data)
            result = await stream.result()
            if data is not good:
                assert result.status == pb.FRAME_STATUS_INVALID and result.detail
        assert result.status == pb.FRAME_STATUS_OK
        assert [picture.data for picture in r.engine.pictures] == [good]


async def test_what_is_unusual_is_decoded_for_it():
    async with running(Decoding(), max_compute_pixels=10_000) as r:
        stream = await r.open()
        for frame_id, progressive in enumerate((True, False)):
            await stream.frame(frame_id, jpeg(5, 640, 480, progressive=progressive))
            result = await stream.result()
            assert np.all(decode_png(result.mask.data, PALETTE) == 5)
        unusual, usual = r.engine.pictures
        assert unusual.data == b"" and unusual.pixels.shape[:2] == unusual.compute[::-1]
        assert usual.data and usual.pixels is None


async def test_damage_that_it_finds_is_told_like_the_server_s_own():
    whole = encode(photo(320, 240))
    damaged = bytearray(whole)
    damaged[len(whole) // 2 : len(whole) // 2 + 400] = b"\x55\xaa" * 200
    found = []
    for engine in (Decoding(), FakeEngine()):
        async with running(engine) as r:
            stream = await r.open()
            await stream.frame(0, bytes(damaged))
            bad = await stream.result()
            await stream.frame(1, whole)
            assert (await stream.result()).status == pb.FRAME_STATUS_OK
            found.append((bad.status, bad.invalid_reason, bad.detail))
            value = r.server.metrics.registry.get_sample_value
            assert value("tilestream_frames_invalid_total", {"reason": "corrupt"}) == 1
    assert found[0] == found[1] and found[0][0] == pb.FRAME_STATUS_INVALID
