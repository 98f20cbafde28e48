"""The compose stack under a name and on ports of its own, so that it stands beside one that is running."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException, ImageNotFound

from tools.docker_engine import CannotCheckError

ROOT = Path(__file__).resolve().parent.parent
PROJECT = "tilestream-check"
SERVER_PORT, PROMETHEUS_PORT = 50951, 9951
SERVER, PROMETHEUS = f"127.0.0.1:{SERVER_PORT}", f"http://127.0.0.1:{PROMETHEUS_PORT}"
BASE = "python:3.11-slim"


def require(client: docker.DockerClient) -> None:
    """Raises :class:`CannotCheckError` where Compose or an image that is not ours cannot be had."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        raise CannotCheckError("`docker compose` is not installed")
    config = json.loads(compose("config", "--format", "json", capture=True))
    for image in (BASE, config["services"]["prometheus"]["image"]):
        try:
            client.images.get(image)
        except ImageNotFound:
            try:
                client.images.pull(image)
            except DockerException as error:
                raise CannotCheckError(f"image {image} cannot be pulled ({error})") from error


def build(target: str) -> None:
    """One of the Dockerfile's images, under the name that the compose file gives it."""
    command = ["docker", "build", "--target", target, "-t", f"tilestream:{target}", str(ROOT)]
    for name in ("WHEELS", "TORCH_INDEX"):
        command += ["--build-arg", f"{name}={os.environ[name]}"] if name in os.environ else []
    subprocess.run(command, check=True, env={**os.environ, "DOCKER_BUILDKIT": "1"})


def compose(*words: str, capture: bool = False) -> str:
    """Run `docker compose`; returns its standard output where it is captured."""
    environment = {
        **os.environ,
        "TILESTREAM_PORT": str(SERVER_PORT),
        "PROMETHEUS_PORT": str(PROMETHEUS_PORT),
        "TILESTREAM_MODELS": "swiftnet_resnet18",
    }
    command = ["docker", "compose", "--project-name", PROJECT, "--project-directory", str(ROOT), *words]
    result = subprocess.run(command, check=True, env=environment, text=True, capture_output=capture)
    return result.stdout or ""


def take_down(client: docker.DockerClient) -> None:
    """Stop everything, volumes included; AssertionError where a container is left."""
    compose("--profile", "demo", "down", "--volumes", "--timeout", "5")
    left = client.containers.list(all=True, filters={"label": f"com.docker.compose.project={PROJECT}"})
    assert not left, f"containers are left: {left}"


def container(client: docker.DockerClient, service: str = "server") -> Any:
    """The container of a service that has one."""
    labels = [f"com.docker.compose.project={PROJECT}", f"com.docker.compose.service={service}"]
    (found,) = client.containers.list(all=True, filters={"label": labels})
    return found


def megabytes(client: docker.DockerClient, image: str) -> float:
    """Size of an image, of which layers may be shared with others."""
    return float(client.images.get(image).attrs["Size"]) / 1e6
