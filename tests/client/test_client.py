"""The blocking client against a scripted server on a real socket."""

from __future__ import annotations

import gc
import threading
import time

import grpc
import numpy as np
import pytest
from fake_answers import labels_for
from waiting import SOON, eventually, own_threads

from tilestream_client import (
    Client,
    Frame,
    InvalidConfig,
    SessionClosed,
)

CODE = grpc.StatusCode


@pytest.mark.parametrize("encoding", ["png", "rle", "raw"])
def test_a_mask_for_every_frame(serve, images, encoding):
    with Client(serve().target) as client:
        results = list(client.stream(images, mask_encoding=encoding, camera_id="front"))
    assert [result.frame_id for result in results] == list(range(10))
    for result in results:
        assert result.ok and result.labels.dtype == np.uint8 and result.mask.encoding == encoding
        np.testing.assert_array_equal(result.labels, labels_for(result.frame_id, 48, 32))


def test_all_that_a_result_tells(serve, images):
    server = serve(fate=["ok", "ok", "dropped", "invalid"].__getitem__)
    frames = [Frame(image=images[4], name="a", capture_time=1700000000.5), *images[:3]]
    with Client(server.target) as client:
        stream = client.stream(frames, include_bins=True, include_confidence=True)
        key, partial, dropped, invalid = stream
    assert stream.session.model.name == "fake" and stream.session.resume_token == b"secret"
    assert "secret" not in repr(stream.session)
    assert (key.name, key.capture_time, key.status, key.reason) == ("a", 1700000000.5, "ok", "")
    assert key.latency > 0 and key.times.total == pytest.approx(0.0015)
    assert key.times.tables == pytest.approx(0.00025)
    assert key.reuse.key_frame and key.reuse.block_drop_rate == 0 and key.reuse.agreement is None
    assert partial.reuse.agreement == pytest.approx(0.9)
    assert partial.reuse.block_drop_rate == 0.6 and partial.reuse.units_dropped == 60
    assert key.confidence.shape == (32, 48) and int(key.confidence[0, 0]) == 200
    assert key.bins.age.tolist() == [[0, 1, 2], [3, 4, 5]] and key.bins.bin_size == 16
    assert np.abs(key.image.astype(int) - images[4]).max() <= 3
    assert [item.name for item in key.classes] == ["road", "sky", "car"]
    assert key.colorize()[0, 0].tolist() == [0x80, 0x40, 0x80] == key.palette[0].tolist()
    assert key.overlay(alpha=1.0).shape == (32, 48, 3)
    assert (dropped.status, dropped.reason, dropped.labels) == ("dropped", "queue_full", None)
    assert (invalid.status, invalid.reason, invalid.detail) == ("invalid", "not_jpeg", "no SOI marker")
    with pytest.raises(ValueError, match="queue_full"):
        dropped.colorize()


def test_what_is_asked_for_reaches_the_server(serve, images):
    server = serve()
    with Client(server.target, token="t0ken", metadata=(("traceparent", "00-x"),)) as client:
        options = {"output_size": (24, 16), "compute_size": (64, 64), "block_budget": 0.5, "weight": 2.0}
        results = list(client.stream(images[:2], model="fake", queue_policy="latest-only", **options))
    assert results[0].labels.shape == (16, 24) and results[0].overlay().shape == (32, 48, 3)
    config = server.records[0].config
    assert (config.model, config.block_budget, config.weight, config.queue_policy) == ("fake", 0.5, 2.0, 3)
    assert (config.compute_size.width, config.output_size.height) == (64, 16)
    metadata = server.records[0].metadata
    assert metadata["authorization"] == "Bearer t0ken" and metadata["traceparent"] == "00-x"


def test_empty_bytes_and_garbage_are_the_server_s_to_judge(serve):
    with Client(serve().target) as client:
        results = list(client.stream([b"", b"not a jpeg"]))
    assert [result.status for result in results] == ["invalid", "invalid"] and results[0].image is None


def test_noise_on_the_stream_changes_nothing(serve, images):
    with Client(serve(noise=True).target) as client:
        assert len(list(client.stream(images))) == 10


@pytest.mark.parametrize("in_flight", [1, 3])
def test_bounded_under_way_and_read_ahead(serve, images, in_flight):
    gate = threading.Event()
    server = serve(gate=gate, hold=in_flight)
    read = 0

    def frames():
        nonlocal read
        for image in images:
            read += 1
            yield image

    with Client(server.target) as client:
        results = iter(client.stream(frames(), frames_in_flight=in_flight))
        taker = threading.Thread(target=lambda: next(results))
        taker.start()
        assert eventually(lambda: server.records and len(server.records[0].frames) == in_flight)
        time.sleep(0.05)
        assert read <= in_flight + 1
        gate.set()
        taker.join(SOON)
        assert len(list(results)) == 9
    assert server.records[0].max_unanswered <= in_flight


def test_a_slow_caller_is_not_run_away_from(serve, images):
    read = []
    with Client(serve().target) as client:
        stream = client.stream((read.append(index) or image for index, image in enumerate(images)))
        for taken, _ in enumerate(stream, start=1):
            time.sleep(0.01)
            assert len(read) <= taken + 2 + 1


def test_leaving_the_loop_ends_the_session_and_the_threads(serve, images):
    server = serve()
    with Client(server.target) as client:
        stream = client.stream(image for _ in range(1000) for image in images)
        for _ in stream:
            break
        assert server.records[0].over.wait(SOON)
        assert len(server.records[0].frames) < 10
        assert eventually(lambda: not own_threads())
        with pytest.raises(SessionClosed, match="only once"):
            next(iter(stream))


def test_a_stream_that_nobody_holds_ends(serve, images):
    server = serve()
    with Client(server.target) as client:
        stream = client.stream(images)
        stream.open()
        del stream
        gc.collect()
        assert server.records[0].over.wait(SOON) and eventually(lambda: not own_threads())


def test_closing_the_client_ends_its_streams(serve, images):
    server = serve()
    client = Client(server.target)
    results = iter(client.stream(image for _ in range(1000) for image in images))
    next(results)
    client.close()
    with pytest.raises(SessionClosed, match="closed"):
        list(results)
    assert server.records[0].over.wait(SOON)
    with pytest.raises(SessionClosed, match="client is closed"):
        client.models()
    with pytest.raises(SessionClosed, match="client is closed"):
        list(client.stream(images))


def test_no_thread_is_left_after_many_streams(serve, images):
    server = serve()
    with Client(server.target) as client:
        before = threading.active_count()
        for _ in range(5):
            list(client.stream(images))
            next(iter(client.stream(images)))
        assert eventually(lambda: threading.active_count() <= before + 1)  # gRPC keeps one per channel


def test_heartbeats_while_the_camera_is_silent(serve, images):
    server = serve(limits={"idle_timeout_ms": 60})

    def frames():
        yield images[0]
        assert eventually(lambda: server.records[0].heartbeats >= 2)
        yield images[1]

    with Client(server.target) as client:
        assert len(list(client.stream(frames()))) == 2


def test_no_frames_at_all(serve):
    server = serve()
    with Client(server.target) as client:
        assert list(client.stream([])) == []
    assert server.records[0].half_closed


def test_several_streams_of_one_client(serve, images):
    with Client(serve().target) as client:
        rounds = [iter(client.stream(images)) for _ in range(3)]
        for turn in zip(*rounds, strict=True):
            assert len({result.frame_id for result in turn}) == 1


def test_questions(serve):
    with Client(serve(sessions=7).target) as client:
        (model,) = client.models()
        assert model.is_default and model.classes[2].color == (0, 0, 0x8E) and model.reference_miou == 0.5
        info = client.info()
        assert (info.version, info.device, info.limits.max_frame_side) == ("9.9.9", "cpu", 4096)
        assert info.mask_encodings == ("png", "rle", "encoding 77")
        assert [session.session_id for session in client.sessions()] == [f"s{index}" for index in range(7)]


def test_options_that_cannot_be_written(serve):
    with Client("localhost:1") as client:
        with pytest.raises(InvalidConfig, match='"png", "rle", "raw"') as caught:
            client.stream([], mask_encoding="gif")
        assert caught.value.fields[0].field == "mask_encoding"
        with pytest.raises(InvalidConfig, match="wrong"):
            client.stream([], output_size=(-1, 4))
        with pytest.raises(TypeError, match="modl"):
            client.stream([], modl="x")
