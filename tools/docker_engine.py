"""A Docker engine for checks: the one that is there, or one of our own that leaves the host as it was."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker
from docker.errors import DockerException

START_SECONDS = 120.0
FORWARD, BRIDGE = Path("/proc/sys/net/ipv4/ip_forward"), Path("/sys/class/net/docker0")
TABLES = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}  # and their built-in chains


class CannotCheckError(Exception):
    """There is nothing to check with; the message says what is missing."""


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
    deadline = time.monotonic() + START_SECONDS
    while daemon.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(DockerException):
            client = docker.from_env()
            client.ping()
            return client
        time.sleep(0.5)
    raise CannotCheckError("dockerd does not start here")
