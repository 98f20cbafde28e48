"""The Go client against the real server: the Python client's labels, and every frame once whatever breaks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from support.processes import environment, free_port, served
from support.video import STRUCTURES, encode_clip, plain_images, plain_label
from tilestream_client import Client
from tilestream_street import SyntheticStreet
from tools import go_toolchain
from tools.server_process import server_process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

FAKE = (sys.executable, "-m", "support.fake_server")
FRAMES = 101


@pytest.fixture(scope="module")
def go() -> Callable[..., subprocess.CompletedProcess]:
    """Runs the go command in the client's module; skips where there is none, which is a failure in CI."""
    try:
        command = go_toolchain.find()
        go_toolchain.fetch_modules(command)
    except go_toolchain.MissingError as error:
        if os.environ.get("CI") or os.environ.get("TILESTREAM_REQUIRE_GO"):
            pytest.fail(str(error))
        pytest.skip(str(error))

    def run(*words: str, **more: str) -> subprocess.CompletedProcess:
        settings = {**go_toolchain.environment(command), **more}
        done = subprocess.run(
            (str(command), *words), cwd=go_toolchain.MODULE, env=settings,
            capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        print(done.stdout, done.stderr)
        return done

    return run


@pytest.fixture(scope="module")
def stream_command(go, tmp_path_factory) -> Path:
    """The example command, built."""
    path = tmp_path_factory.mktemp("go") / "tilestream-stream"
    assert go("build", "-o", str(path), "./examples/tilestream-stream").returncode == 0
    return path


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> Path:
    """A folder of JPEGs: the drawn street, or CamVid's val from the folder that TILESTREAM_CAMVID names."""
    folder = tmp_path_factory.mktemp("street")
    if camvid := os.environ.get("TILESTREAM_CAMVID"):
        lines = (Path(camvid) / "val.txt").read_text().splitlines()
        for index, line in enumerate(lines):
            (folder / f"{index}.jpg").symlink_to(Path(camvid) / line.split()[0])
        return folder
    made = SyntheticStreet(seed=1_009_999, width=160, height=120, fps=15.0)
    for index, frame in enumerate(made.frames(FRAMES)):
        cv2.imwrite(str(folder / f"{index}.jpg"), frame.image[..., ::-1])
    return folder


@pytest.mark.parametrize("encoding", ["png", "rle", "raw"])
def test_labels_are_those_of_the_python_client(tmp_path, stream_command, street, encoding):
    """Bit for bit; the budget is fixed, or it would follow the time that steps take."""
    flags = ("--models", "swiftnet_resnet18", "--min-block-budget", "1", "--block-budget", "0.5")
    with served(tmp_path, *flags) as (_, port):
        address = f"127.0.0.1:{port}"
        with Client(address) as client:
            expected = list(client.stream(str(street), mask_encoding=encoding, camera_id="front"))
        summary, masks = tmp_path / "summary.json", tmp_path / "masks"
        words = (
            "-quiet",
            "-encoding",
            encoding,
            "-camera",
            "front",
            "-json",
            str(summary),
            "-masks",
            str(masks),
        )
        done = subprocess.run(
            (str(stream_command), "-server", address, *words, str(street)),
            check=True,
            capture_output=True,
            text=True,
        )
    assert f"{FRAMES} of {FRAMES} frames segmented" in done.stdout
    told = json.loads(summary.read_text())
    assert told["frames_ok"] == told["frames_sent"] == FRAMES and told["model"] == "swiftnet_resnet18"
    assert (told["width"], told["height"]) == (expected[0].mask.width, expected[0].mask.height)
    for result in expected:
        mask = cv2.imread(str(masks / Path(result.name).with_suffix(".png")))
        assert np.array_equal(mask[..., ::-1], result.palette[result.labels])


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_access_units_are_cut_out_of_a_stream_and_sent(tmp_path, stream_command, codec):
    """With B pictures, so that answers wait for later units."""
    units = encode_clip(plain_images(30), codec, STRUCTURES["b-pictures"])
    source, masks = tmp_path / f"clip.{codec}", tmp_path / "masks"
    source.write_bytes(b"".join(unit.data for unit in units))
    with server_process(tmp_path, command=FAKE, environment=environment()) as (_, port):
        words = ("-server", f"127.0.0.1:{port}", "-quiet", "-codec", codec, "-masks", str(masks), str(source))
        done = subprocess.run((str(stream_command), *words), check=True, capture_output=True, text=True)
    assert "30 of 30 frames segmented, 0 dropped, 0 invalid" in done.stdout
    for number, unit in enumerate(units):
        mask = np.array(Image.open(masks / f"{number:06d}.png"))
        assert np.bincount(mask.ravel()).argmax() == plain_label(unit.shown)


def test_a_broken_network_a_slow_reader_and_refusals(tmp_path, go):
    """200 cuts at random places among others; see client/go/e2e_test.go."""
    quick = ("--max-sessions", "3", "--retry-delay", "0.5")
    with server_process(tmp_path, *quick, command=FAKE, environment=environment()) as (_, port):
        target = f"127.0.0.1:{port}"
        tests = "TestRealServer(OverANetwork|ThatIsFull|DoesNotKnow|Refuses|AndASlow|TellsWhat)"
        done = go("test", "-count=1", "-v", "-run", tests, ".", TILESTREAM_E2E_SERVER=target)
    assert done.returncode == 0 and done.stdout.count("--- PASS") == 6 and "200 cuts" in done.stdout


def test_servers_that_are_killed_and_servers_that_drain(tmp_path, go):
    """One after the other on one port, while a session of the Go client goes on."""
    port, progress = free_port(), tmp_path / "progress"

    def start() -> subprocess.Popen:
        words = (*FAKE, "--port", str(port), "--grace-period", "1", "--retry-delay", "0.1")
        with (tmp_path / "server.log").open("a") as log:
            return subprocess.Popen(words, env=environment(), stdout=log, stderr=log)

    def wait_for_progress() -> None:
        progress.unlink(missing_ok=True)
        while testing.poll() is None and not progress.exists():
            time.sleep(0.02)

    server = start()
    settings = {
        "TILESTREAM_E2E_SERVER": f"127.0.0.1:{port}",
        "TILESTREAM_E2E_PROGRESS": str(progress),
        "TILESTREAM_E2E_RECONNECTS": "4",
    }
    command = go_toolchain.find()
    test = tmp_path / "client.test"
    assert go("test", "-c", "-o", str(test), ".").returncode == 0
    testing = subprocess.Popen(
        (str(test), "-test.v", "-test.run", "TestRealServerThatRestarts"),
        cwd=go_toolchain.MODULE, env={**go_toolchain.environment(command), **settings},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        for end in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
            wait_for_progress()
            server.send_signal(end)
            server.wait(60)
            server = start()
        said, _ = testing.communicate(timeout=300)
        print(said, (tmp_path / "server.log").read_text())
        assert testing.returncode == 0 and "--- PASS" in said
    finally:
        testing.kill()
        server.kill()
        server.wait()
