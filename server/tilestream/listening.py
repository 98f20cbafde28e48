"""Where the server listens: an address of the network, or a socket of the file system (``unix:/path``).

gRPC by itself takes over the socket of a server that runs, and removes whatever has its name at the end.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

UNIX = "unix:"
_LONGEST = 107  # bytes of a socket's path; the system has room for no more
_PROBE_SECONDS = 2.0


class ListenError(Exception):
    """The server cannot listen there; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Where it listens. ``port``: 0 for a socket of the file system."""

    address: str
    port: int
    path: Path | None = None
    inode: tuple[int, int] = (0, 0)

    def close(self) -> None:
        """Remove the socket's file, if it is still the one that was made here. Idempotent."""
        if self.path is not None and _inode(self.path) == self.inode:
            self.path.unlink(missing_ok=True)


def listen(bind: Callable[[str], int], host: str, port: int) -> Listener:
    """Listen on a host's port, or on ``unix:/path``, which has none.

    ``bind``: takes an address as gRPC writes it, returns the port; raises RuntimeError where there is none.
    Raises :class:`ListenError`.
    """
    if host.startswith(UNIX):
        return _listen_on_file(bind, socket_path(host))
    address = f"{bracketed(host)}:{port}"
    try:
        bound = bind(address)
    except RuntimeError as error:
        raise ListenError(f"cannot listen on {address}: {_why_not(host, port) or error}") from error
    return Listener(f"{bracketed(host)}:{bound}", bound)


def bracketed(host: str) -> str:
    """A host as it stands before a port: ``::1`` and ``[::1]`` are the same."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def unbracketed(host: str) -> str:
    """A host as the system's calls take it."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def is_loopback(host: str) -> bool:
    """Whether a host, with brackets or without, is an address that only this machine reaches."""
    try:
        return ip_address(unbracketed(host)).is_loopback
    except ValueError:
        return host == "localhost"


def socket_path(host: str) -> Path:
    """The path of ``unix:/path``, ``unix:///path`` or ``unix:relative``. Raises ValueError for none."""
    name = host.removeprefix(UNIX)
    if name.startswith("//"):
        name = name.removeprefix("//")
        if not name.startswith("/"):
            raise ValueError("has to be unix:/path or unix:///path")
    if not name or name.endswith("/"):
        raise ValueError("has to name a file: unix:/path")
    path = Path(name).absolute()
    if max(len(os.fsencode(name)) for name in (path, _beside(path))) > _LONGEST:
        raise ValueError(f"is too long: the path of a socket may have {_LONGEST} bytes")
    return path


def _listen_on_file(bind: Callable[[str], int], path: Path) -> Listener:
    """Bind under a name of our own, which gRPC may remove, and give that socket its real name then."""
    _clear(path)
    own = _beside(path)
    own.unlink(missing_ok=True)
    try:
        bind(f"{UNIX}{own}")
        inode = _inode(own) or (0, 0)
        os.link(own, path)  # fails where another server was quicker
        own.unlink()
    except FileExistsError as error:
        own.unlink(missing_ok=True)
        raise ListenError(f"cannot listen on {UNIX}{path}: another server took it just now") from error
    except (RuntimeError, OSError) as error:
        own.unlink(missing_ok=True)
        why = error.strerror if isinstance(error, OSError) else _why_no_file(path)
        raise ListenError(f"cannot listen on {UNIX}{path}: {why or error}") from error
    return Listener(f"{UNIX}{path}", 0, path, inode)


def _clear(path: Path) -> None:
    """Take away the socket of a server that is gone. Raises ListenError where anything else is there."""
    found = _inode(path)
    if found is None:
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise ListenError(f"cannot listen on {UNIX}{path}: there is a file of that name that is no socket")
    if _answers(path):
        raise ListenError(f"cannot listen on {UNIX}{path}: another server listens there")
    aside = _beside(path)
    try:
        path.rename(aside)
        if _inode(aside) != found:  # another server has just done the same, and this is its socket
            os.link(aside, path)
            aside.unlink()
            raise ListenError(f"cannot listen on {UNIX}{path}: another server took it just now")
        aside.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ListenError(f"cannot listen on {UNIX}{path}: {error.strerror}") from error


def _beside(path: Path) -> Path:
    """A name in the same folder that only this process uses; as short as can be."""
    return path.with_name(f".{os.getpid():x}")


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _answers(path: Path) -> bool:
    """Whether somebody listens on a socket; one that may not be asked counts as such."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def _why_no_file(path: Path) -> str:
    """Why a socket's file could not be made, which gRPC does not say."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    return "" if os.access(path.parent, os.W_OK) else f"{path.parent} cannot be written to"


def _why_not(host: str, port: int) -> str:
    """Why an address cannot be had: the system says it when it is asked the same, gRPC does not."""
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(
            unbracketed(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        return error.strerror or str(error)
    return ""
