"""How many cores and how much memory this process may use: what the machine has, or its container gets.

A container's CPU quota does not show in the number of the machine's cores. Who starts a thread for each of
those is stopped for the rest of every period (100 ms) in which they have used up the quota together.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_NO_LIMIT = 1 << 60  # bytes; version 1 writes a number about as large as there are for "no limit"


@dataclass(frozen=True, slots=True)
class Resources:
    """``cores``: whole ones, at least 1; a quota is rounded down, as other threads run beside those.

    ``memory``: bytes; None where it cannot be told. ``..._limited_by``: the file with the limit; "" for none.
    """

    cores: int
    memory: int | None
    cores_limited_by: str = ""
    memory_limited_by: str = ""


def resources(
    cgroups: Path = _CGROUPS,
    own_cgroups: Path = _OWN_CGROUPS,
    machine_cores: int | None = None,
    machine_memory: int | None = None,
) -> Resources:
    """What there is for this process. ``cgroups``: where control groups are mounted, of either version.

    ``own_cgroups``: the file that says which of them this process is in. ``machine_...``: else the system's.
    """
    cores = _machine_cores() if machine_cores is None else machine_cores
    memory = _machine_memory() if machine_memory is None else machine_memory
    cores_by = memory_by = ""
    for file, quota in _cpu_quotas(cgroups, own_cgroups):
        if int(quota) < cores:
            cores, cores_by = max(1, int(quota)), str(file)
    for file, limit in _memory_limits(cgroups, own_cgroups):
        if memory is None or limit < memory:
            memory, memory_by = limit, str(file)
    return Resources(cores, memory, cores_by, memory_by)


def _machine_cores() -> int:
    """Those that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def _machine_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _cpu_quotas(cgroups: Path, own_cgroups: Path) -> Iterator[tuple[Path, float]]:
    """Every quota that holds, in cores."""
    for folder in _folders(cgroups, own_cgroups, ""):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if quota.isdecimal() and period.strip().isdecimal() and int(period):
            yield folder / "cpu.max", int(quota) / int(period)
    for folder in _folders(cgroups, own_cgroups, "cpu"):
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):  # -1: no quota
            yield folder / "cpu.cfs_quota_us", int(quota) / int(period)


def _memory_limits(cgroups: Path, own_cgroups: Path) -> Iterator[tuple[Path, int]]:
    """Every limit that holds, in bytes."""
    for controller, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        for folder in _folders(cgroups, own_cgroups, controller):
            text = _read(folder / name)
            if text.isdecimal() and 0 < int(text) < _NO_LIMIT:
                yield folder / name, int(text)


def _folders(cgroups: Path, own_cgroups: Path, controller: str) -> Iterator[Path]:
    """The folders of our control group and of all above it, whose limits hold as well; the mount comes first.

    ``controller``: of version 1, such as "memory"; "": version 2. In a container the mount is often our own
    group already, under a path that is the host's.
    """
    root = cgroups if not controller else next(iter(_mounts(cgroups, controller)), None)
    if root is None:
        return
    yield root
    for line in _read(own_cgroups).splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if (controller in names.split(",")) if controller else not names:
            folder = root
            for part in Path(path).parts[1:]:
                folder = folder / part
                if part == ".." or not folder.is_dir():
                    return
                yield folder


def _mounts(cgroups: Path, controller: str) -> list[Path]:
    """Where a controller of version 1 is mounted, alone or with others (``cpu,cpuacct``)."""
    if not cgroups.is_dir():
        return []
    found = [folder for folder in cgroups.iterdir() if controller in folder.name.split(",")]
    return sorted(found, key=lambda folder: len(folder.name))


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def limit_opencv(cores: int) -> None:
    """No more threads for OpenCV than there are cores; it counts the machine's."""
    import cv2

    if cv2.getNumThreads() > cores:
        cv2.setNumThreads(cores)
