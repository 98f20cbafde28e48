"""Areas, instances, regions and events in Python and by the command, from the real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from support.coco import encoded
from support.fake_engine import STEP
from support.polygons import inside
from support.server import running
from tilestream_client import (
    AsyncClient,
    Client,
    InvalidConfig,
    MaskError,
    Outputs,
    Region,
    Rule,
    jpeg,
    masks,
)
from tilestream_client.cli import app
from tilestream_client.sources import Frame

LEFT = Region("left", [(0, 0), (0.5, 0), (0.5, 1), (0, 1)])


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of a server whose labels are gray values / STEP."""
    address: list[str] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    done = asyncio.Event()

    async def serve() -> None:
        async with running() as r:
            address.append(f"127.0.0.1:{r.server.port}")
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(60)
    yield address[0]
    loop.call_soon_threadsafe(done.set)
    thread.join(60)


def picture(*places: tuple[int, int, int, int]) -> np.ndarray:
    """uint8 [96, 160, 3]: rectangles (x, y, label, side) on label 0."""
    image = np.zeros((96, 160, 3), np.uint8)
    for x, y, label, side in places:
        image[y : y + side, x : x + side] = label * STEP
    return image


SCENE = picture((8, 16, 4, 24), (120, 40, 4, 16), (64, 64, 7, 16))


def test_typed_values_of_everything(server):
    wishes = Outputs(areas=True, instances=True, polygons=True, coco_rle=True, instance_classes=[4, 7])
    with Client(server) as client:
        stream = client.stream([SCENE], quality=100, outputs=wishes, regions=[LEFT], mask_encoding="raw")
        (result,) = stream
    labels = result.labels
    assert {area.value: area.pixels for area in result.areas} == {
        v: (labels == v).sum() for v in np.unique(labels)
    }
    assert [(each.value, each.box.x, each.box.y) for each in result.instances[:1]] == [(4, 8, 16)]
    for each in result.instances:
        mask = each.mask(*result.size)
        assert mask.sum() == each.pixels and set(labels[mask == 1]) == {each.value}
        assert each.polygons[0].dtype == np.float32
        outlined = inside([polygon.ravel() for polygon in each.polygons], *labels.shape)
        assert (outlined != (mask == 1)).sum() <= 8  # tolerance 1
    assert result.instances[0].centroid == pytest.approx((20 / 160, 28 / 96), abs=0.01)
    assert result.regions[0].name == "left" and result.regions[0].pixels == 80 * 96
    assert sum(area.pixels for area in result.regions[0].areas) == 80 * 96


def test_without_masks(server):
    with Client(server) as client:
        wishes = Outputs(no_mask=True, instances=True, instance_classes=[4])
        (result,) = client.stream([SCENE], quality=100, outputs=wishes)
        assert result.ok and result.labels is None and result.mask is None and result.size == (160, 96)
        with pytest.raises(ValueError, match="has no mask: the stream asked for none"):
            result.colorize()
        drawn = result.overlay()
        assert (drawn != result.image).any() and (drawn[80:, :50] == result.image[80:, :50]).all()
        (scaled,) = client.stream([SCENE], quality=100, outputs=wishes, output_size=(320, 192))
        assert scaled.size == (320, 192) and scaled.instances[0].box.width > 40
        assert scaled.overlay().shape == (96, 160, 3)


def frames_of(labels: list[int]) -> list[Frame]:
    return [
        Frame(np.full((48, 64, 3), label * STEP, np.uint8), capture_time=100 + index / 10)
        for index, label in enumerate(labels)
    ]


async def test_events_of_the_async_client(server):
    rule = Rule("person", [3], region="left", above_share=0.5, for_seconds=0.2)
    async with AsyncClient(server) as client:
        stream = client.stream(frames_of([0, 3, 3, 3, 3, 0, 0, 0]), regions=[LEFT], rules=[rule])
        told = [
            (result.frame_id, event.rule, event.kind, event.time)
            async for result in stream
            for event in result.events
        ]
    assert told == [
        (3, "person", "began", pytest.approx(100.1)),
        (7, "person", "ended", pytest.approx(100.5)),
    ]


def test_what_the_server_refuses_names_the_field(server):
    with (
        Client(server) as client,
        pytest.raises(InvalidConfig, match=r"outputs\.polygons.*instances"),
    ):
        list(client.stream([SCENE], outputs=Outputs(polygons=True)))
    with Client(server) as client, pytest.raises(InvalidConfig, match="the stream's options are wrong"):
        client.stream([SCENE], regions=[Region("odd", [("left", 0.0)])])


# The command


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six frames: a square of label 4 that grows, from nothing."""
    path = tmp_path / "frames"
    path.mkdir()
    for index, side in enumerate((0, 8, 16, 24, 32, 0)):
        data = jpeg.encode(picture((8, 8, 4, side)), 100)
        (path / f"{index}.jpg").write_bytes(data if index != 2 else b"\xff\xd8\xff no jpeg")
    return path


RULES = {
    "regions": {"left": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]},
    "rules": [{"name": "large", "classes": ["class4", 5], "region": "left", "above_share": 0.05}],
}


def stream(server: str, *arguments: object):
    words = ["stream", "--server", server, *map(str, arguments)]
    return CliRunner().invoke(app, words)


def test_lines_of_json_and_rows_of_parquet_say_the_same(server, folder, tmp_path):
    rules, lines, table = tmp_path / "rules.json", tmp_path / "out" / "r.jsonl", tmp_path / "r.parquet"
    rules.write_text(json.dumps(RULES))
    wishes = ("--areas", "--polygons", "--coco-rle", "--no-mask", "--rules", rules)
    done = stream(server, folder, "--jsonl", lines, "--parquet", table, *wishes)
    assert done.exit_code == 0, done.output
    assert str(lines) in done.output
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [each["frame_id"] for each in told] == list(range(6))
    assert [each["status"] for each in told] == ["ok", "ok", "invalid", "ok", "ok", "ok"]
    assert told[2]["areas"] == [] and told[2]["name"] == "2.jpg" and told[2]["width"] is None
    assert [each["events"] and each["events"][0]["kind"] for each in told] == [
        [],
        [],
        [],
        "began",
        [],
        "ended",
    ]
    square = next(each for each in told[4]["instances"] if each["class"] == "class4")
    assert square["box"] == [8, 8, 32, 32] and square["pixels"] == 32 * 32
    assert masks.decode_coco_rle(square["coco_rle"].encode(), 160, 96).sum() == 32 * 32
    assert sorted(square["polygons"][0]) == sorted([8, 8, 40, 8, 40, 40, 8, 40])
    assert told[4]["regions"][0]["name"] == "left" and told[4]["width"] == 160
    assert pyarrow.parquet.read_table(table).to_pylist() == told


def test_lines_can_be_followed_while_the_stream_goes_on(server, tmp_path):
    from tilestream_client.cli.records import JsonLines

    with Client(server) as client:
        sink = JsonLines(tmp_path / "r.jsonl")
        for count, result in enumerate(client.stream(frames_of([1, 2, 3])), 1):
            sink.add(result)
            assert len((tmp_path / "r.jsonl").read_text().splitlines()) == count
        sink.close()


def test_an_overlay_without_masks_has_boxes_and_regions(server, folder, tmp_path):
    rules, video = tmp_path / "rules.json", tmp_path / "out.mp4"
    rules.write_text(json.dumps(RULES))
    done = stream(server, folder, "--out", video, "--instances", "--no-mask", "--rules", rules)
    assert done.exit_code == 0, done.output
    capture = cv2.VideoCapture(str(video))
    frames = [capture.read()[1] for _ in range(6)]
    assert all(frame is not None for frame in frames)
    edge = frames[4][20:90, 78:82].astype(int)  # the right edge of the region, in which the rule holds
    assert (edge[..., 2] - edge[..., 1]).max() > 60  # is red
    edge = frames[1][20:90, 78:82].astype(int)
    assert edge.max() > 150 and (edge[..., 2] - edge[..., 1]).max() < 40  # is white


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("no json", "is no file of rules"),
        ('{"rule": []}', "unknown: rule; there are regions and rules"),
        ('{"rules": [{"name": "a"}]}', "'classes' is missing"),
        ('{"rules": [{"name": "a", "classes": ["cat"]}]}', "the model has no class 'cat'; it has class0"),
        ('{"rules": [{"name": "a", "classes": [1], "above": 1}]}', "above"),
        ('{"regions": {"a": [[0, 0]]}}', "regions[0].points: 1; allowed: 3 to 64 corners"),
        ("[]", "is no file of rules"),
    ],
)
def test_a_wrong_file_of_rules_is_one_line(server, folder, tmp_path, content, text):
    rules = tmp_path / "rules.json"
    rules.write_text(content)
    done = stream(server, folder, "--rules", rules)
    assert done.exit_code == 1 and text in done.output
    assert "Traceback" not in done.output


def test_outputs_are_not_written_over_inputs(server, folder, tmp_path):
    rules = tmp_path / "rules.json"
    rules.write_text("{}")
    assert "is the input" in stream(server, folder, "--rules", rules, "--jsonl", rules).output
    both = stream(server, folder, "--jsonl", tmp_path / "x", "--parquet", tmp_path / "x")
    assert both.exit_code == 2 and "--jsonl and for --parquet" in both.output
    assert stream(server, folder, "--no-mask", "--masks", tmp_path / "m").exit_code == 2


def test_without_pyarrow_it_says_what_to_install(server, folder, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = stream(server, folder, "--parquet", tmp_path / "r.parquet")
    assert done.exit_code == 1 and "pip install 'tilestream-client[parquet]'" in done.output
    assert not (tmp_path / "r.parquet").exists()


# COCO's run lengths


@given(st.integers(1, 30), st.integers(1, 30), st.data())
def test_coco_run_lengths_decode(height, width, data):
    mask = np.array(
        data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width)), np.uint8
    )
    counts, value = [0], 0
    for pixel in mask.reshape(height, width).T.ravel():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    again = masks.decode_coco_rle(encoded(counts), width, height)
    np.testing.assert_array_equal(again, mask.reshape(height, width))


@given(st.binary(max_size=40))
def test_damaged_coco_run_lengths_are_mask_errors(data):
    with contextlib.suppress(MaskError):
        masks.decode_coco_rle(data, 8, 8)
