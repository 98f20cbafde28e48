"""Looks at the compose stack from outside: build, up, stream, compare with Prometheus, kill, come back, down.

Needs a Docker engine (``DOCKER_HOST``) with Compose. Where there is none but dockerd is installed and we
are root, one is started, and taken away again. Base images have to be there or to be pullable.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException

from tilestream.training.synthetic import write_clip
from tilestream_client import Client, Result
from tilestream_client.sources import open_source, paced

ROOT = Path(__file__).resolve().parent.parent
PROJECT = "tilestream-check"
SERVER_PORT, PROMETHEUS_PORT = 50951, 9951  # beside a stack that may be running
RATE, SECONDS, WINDOW = 4.0, 45, 30
TOLERANCE = 0.05
PATIENCE = 240.0  # seconds for what takes a few
BASE = "python:3.11-slim"
FORWARD, BRIDGE = Path("/proc/sys/net/ipv4/ip_forward"), Path("/sys/class/net/docker0")
TABLES = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}  # and their built-in chains


class CannotCheckError(Exception):
    """There is nothing to check with; the message says what is missing."""


def main() -> int:
    """Run the check; the exit status is 77 where it cannot be run."""
    try:
        with engine() as client:
            check(client)
    except CannotCheckError as error:
        print(f"compose-check: SKIPPED, NOTHING WAS CHECKED: {error}", file=sys.stderr)
        return 77
    return 0


@contextlib.contextmanager
def engine() -> Iterator[docker.DockerClient]:
    """The Docker engine that is there, or one of our own."""
    try:
        client = docker.from_env()
        client.ping()
    except DockerException as error:
        if os.geteuid() != 0 or shutil.which("dockerd") is None:
            raise CannotCheckError(f"no Docker engine answers ({error})") from error
        with own_engine() as client:
            yield client
        return
    yield client


@contextlib.contextmanager
def own_engine() -> Iterator[docker.DockerClient]:
    """A dockerd with its data in a temporary folder; the firewall is as it was afterwards."""
    network = Network()
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix://{folder}/docker.sock"
        command = ["dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
        command += ["-H", address, "--pidfile", f"{folder}/pid"]
        with (Path(folder) / "log").open("w") as log:
            daemon = subprocess.Popen(command, stdout=log, stderr=log)
        before = os.environ.get("DOCKER_HOST")
        os.environ["DOCKER_HOST"] = address
        try:
            yield _connect(daemon)
        finally:
            daemon.terminate()
            daemon.wait()
            os.environ.pop("DOCKER_HOST") if before is None else os.environ.update(DOCKER_HOST=before)
            network.restore()


class Network:
    """What dockerd changes in the host's network and leaves behind, as it is now."""

    def __init__(self) -> None:
        self._forward = FORWARD.read_text()
        self._bridge = BRIDGE.exists()
        saved = subprocess.run(["iptables-save"], capture_output=True, text=True, check=False).stdout
        # A table that nobody has used yet is not in the list; afterwards it is to be empty.
        empty = [
            "\n".join([f"*{table}", *(f":{chain} ACCEPT [0:0]" for chain in chains), "COMMIT\n"])
            for table, chains in TABLES.items()
            if f"*{table}\n" not in saved
        ]
        self._firewall = saved + "".join(empty)

    def restore(self) -> None:
        """As it was."""
        subprocess.run(["iptables-restore"], input=self._firewall, text=True, check=False)
        FORWARD.write_text(self._forward)
        if not self._bridge:
            subprocess.run(["ip", "link", "delete", "docker0"], capture_output=True, check=False)


def _connect(daemon: subprocess.Popen[bytes]) -> docker.DockerClient:
    deadline = time.monotonic() + PATIENCE
    while daemon.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(DockerException):
            client = docker.from_env()
            client.ping()
            return client
        time.sleep(0.5)
    raise CannotCheckError("dockerd does not start here")


def check(client: docker.DockerClient) -> None:
    """Raises AssertionError for what is wrong."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        raise CannotCheckError("`docker compose` is not installed")
    for image in (BASE, _prometheus_image()):
        _have(client, image)
    build()
    try:
        begin = time.monotonic()
        compose("up", "-d", "--no-build", "--wait", "server", "prometheus")
        up = time.monotonic() - begin
        answered = stream(SECONDS)
        assert all(result.ok for _, result in answered), "frames were not answered"
        compare(answered)
        size = client.images.get("tilestream:cpu").attrs["Size"] / 1e6
        hardened(container(client))
        print(f"compose-check: image {size:.0f} MB, up and healthy after {up:.1f} s")
        kill_and_come_back(client)
    finally:
        compose("down", "--volumes", "--timeout", "5")
    left = client.containers.list(all=True, filters={"label": f"com.docker.compose.project={PROJECT}"})
    assert not left, f"containers are left: {left}"
    print("compose-check: passed")


def _prometheus_image() -> str:
    config = compose("config", "--format", "json", capture=True)
    image: str = json.loads(config)["services"]["prometheus"]["image"]
    return image


def _have(client: docker.DockerClient, image: str) -> None:
    try:
        client.images.get(image)
    except docker.errors.ImageNotFound:
        try:
            client.images.pull(image)
        except DockerException as error:
            raise CannotCheckError(f"image {image} cannot be pulled ({error})") from error


def build() -> None:
    """The server's image, as the compose file has it."""
    command = ["docker", "build", "--target", "cpu", "-t", "tilestream:cpu", str(ROOT)]
    for name in ("WHEELS", "TORCH_INDEX"):
        command += ["--build-arg", f"{name}={os.environ[name]}"] if name in os.environ else []
    subprocess.run(command, check=True, env={**os.environ, "DOCKER_BUILDKIT": "1"})


def compose(*words: str, capture: bool = False) -> str:
    """Run `docker compose` on the stack of this check."""
    environment = {
        **os.environ,
        "TILESTREAM_PORT": str(SERVER_PORT),
        "PROMETHEUS_PORT": str(PROMETHEUS_PORT),
        "TILESTREAM_MODELS": "swiftnet_resnet18",
    }
    command = ["docker", "compose", "--project-name", PROJECT, "--project-directory", str(ROOT), *words]
    result = subprocess.run(command, check=True, env=environment, text=True, capture_output=capture)
    return result.stdout or ""


def stream(seconds: float) -> list[tuple[float, Result]]:
    """Send the synthetic street at a steady rate; all answers, and when (monotonic seconds) they came."""
    with tempfile.TemporaryDirectory() as folder, Client(f"127.0.0.1:{SERVER_PORT}") as client:
        clip = Path(folder) / "street.mp4"
        write_clip(clip, seed=12, frames=int(seconds * RATE), width=320, height=240, fps=15.0)
        frames = paced(open_source(str(clip)), RATE)
        return [(time.monotonic(), result) for result in client.stream(frames)]


def compare(answered: list[tuple[float, Result]]) -> None:
    """What Prometheus says of the stream that just ended, against what the client saw."""
    ended = time.time()
    results = [result for _, result in answered]
    speed = f"sum(rate(tilestream_frames_completed_total[{WINDOW}s]))"
    found = ask(speed, ended)
    times = [at for at, _ in answered if at > answered[-1][0] - WINDOW]
    assert_near("frames/s", found, (len(times) - 1) / (times[-1] - times[0]))
    wait_for(lambda: ask("sum(tilestream_frames_completed_total)") == len(results), "all frames are counted")
    latency = ask("sum(tilestream_frame_latency_seconds_sum) / sum(tilestream_frame_latency_seconds_count)")
    assert_near("latency on the server", latency, _mean([result.times.total for result in results]))
    seen = _mean([result.latency for result in results])
    assert_near("latency at the client", latency, seen, slack=0.01)  # the way through loopback
    dropped, computed = (ask(f"sum(tilestream_block_units_{name}_total)") for name in ("dropped", "computed"))
    reuse = [result.reuse for result in results if result.reuse is not None]
    ours = sum(r.units_dropped for r in reuse) / sum(r.units_dropped + r.units_computed for r in reuse)
    assert ours > 0.1, "nothing was reused"
    assert_near("block drop rate", dropped / (dropped + computed), ours)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def assert_near(what: str, found: float, expected: float, slack: float = 0.0) -> None:
    """Within five percent, and ``slack``."""
    print(f"compose-check: {what}: Prometheus {found:.4f}, client {expected:.4f}")
    assert abs(found - expected) <= TOLERANCE * expected + slack, what


def ask(expression: str, at: float | None = None) -> float:
    """The value of an expression, by Prometheus' API; 0 where there is none yet."""
    query = urllib.parse.urlencode({"query": expression, **({"time": at} if at else {})})
    url = f"http://127.0.0.1:{PROMETHEUS_PORT}/api/v1/query?{query}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        result = json.load(answer)["data"]["result"]
    return float(result[0]["value"][1]) if result else 0.0


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Look until it is true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.5)


def container(client: docker.DockerClient) -> Any:
    """The server's container."""
    labels = [f"com.docker.compose.project={PROJECT}", "com.docker.compose.service=server"]
    (found,) = client.containers.list(filters={"label": labels})
    return found


def hardened(server: Any) -> None:
    """No root, nothing writable, no compiler."""
    code, user = server.exec_run(["python", "-c", "import os; print(os.getuid())"])
    assert (code, user) == (0, b"10001\n"), user
    for path in ("/opt/tilestream/x", "/etc/x", "/x"):
        code, _ = server.exec_run(["touch", path])
        assert code, f"{path} can be written"
    code, _ = server.exec_run(["sh", "-c", "command -v cc gcc g++ clang || test -e /opt/tilestream/bin/pip"])
    assert code, "a compiler or pip was left in the image"


def kill_and_come_back(client: docker.DockerClient) -> None:
    """Kill the server as a crash would; its restart policy has to bring it back."""
    before = container(client)
    os.kill(
        before.attrs["State"]["Pid"], signal.SIGKILL
    )  # of a local engine; `docker kill` would count as a stop

    def back() -> bool:
        with contextlib.suppress(ValueError):
            state = container(client).attrs
            return state["RestartCount"] > 0 and state["State"]["Health"]["Status"] == "healthy"
        return False

    wait_for(back, "the server is back")
    assert all(result.ok for _, result in stream(2)), "the server that came back does not answer"


if __name__ == "__main__":
    sys.exit(main())
