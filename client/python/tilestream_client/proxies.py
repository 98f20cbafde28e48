"""Proxies that the environment names, and which gRPC would use for every plain address.

The server has the same in ``tilestream.proxies``: neither distribution needs the other.
"""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""Where gRPC looks for a proxy, in this order, whether a channel is encrypted or not."""

_EXEMPT = ("no_grpc_proxy", "no_proxy")  # where it looks for hosts without one; only the first that is set
WITHOUT = ("grpc.enable_http_proxy", 0)
"""The option of a channel that never goes through a proxy."""


def proxy_options(target: str) -> list[tuple[str, int]]:
    """The options of a channel to ``target`` (as gRPC takes it): what is on this machine needs no proxy."""
    return [WITHOUT] if is_local(target) else []


def proxy_variable(target: str) -> str:
    """The variable of the environment whose proxy a channel to ``target`` uses; "" where it uses none."""
    if is_local(target):
        return ""
    host = host_of(target)
    exempt = next((os.environ[name] for name in _EXEMPT if os.environ.get(name)), "")
    if any(_covers(entry.strip(), host) for entry in exempt.split(",")):
        return ""
    return next((name for name in VARIABLES if os.environ.get(name)), "")


def is_local(target: str) -> bool:
    """Whether a target is a socket of the file system, or an address of the loopback interface."""
    if target.startswith(("unix:", "unix-abstract:", "vsock:")):
        return True
    host = host_of(target).rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    found = mapped or address
    return found.is_loopback or found.is_unspecified


def host_of(target: str) -> str:
    """The host of "host:port", "[::1]:port", "dns:///host:port", "ipv4:1.2.3.4:5" and the like."""
    for scheme in ("dns:", "ipv4:", "ipv6:"):
        if target.startswith(scheme):
            target = target.removeprefix(scheme)
            if target.startswith("//"):
                target = target[2:].partition("/")[2]
            break
    target = target.partition(",")[0]
    if target.count(":") > 1 and not target.startswith("["):  # an IPv6 address without a port
        return target
    try:
        return urlsplit(f"//{target}").hostname or ""
    except ValueError:
        return target


def _covers(entry: str, host: str) -> bool:
    """Whether an entry of no_proxy (a domain's end, an address or a network) is about this host."""
    if not entry:
        return False
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return host.lower().endswith(entry.lower())
