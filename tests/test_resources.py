"""How many cores and how much memory there are, with folders that stand for /sys/fs/cgroup."""

import threading
from pathlib import Path

import cv2
import pytest
import torch

from support.server import running
from tilestream.engine.device import default_store_bytes, divide, use_threads
from tilestream.resources import Resources, resources

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path):
    """Asks what there is on a machine of 16 cores and 64 GiB with these files of control groups."""

    def ask(files: dict[str, str], own: str = "0::/\n") -> Resources:
        groups, process = tmp_path / "cgroup", tmp_path / "self"
        groups.mkdir()
        process.write_text(own)
        for name, text in files.items():
            (groups / name).parent.mkdir(parents=True, exist_ok=True)
            (groups / name).write_text(text + "\n")
        found = resources(groups, process, 16, 64 * GIB)
        by = (found.cores_limited_by, found.memory_limited_by)
        short = (name and str(Path(name).relative_to(groups)) for name in by)
        return Resources(found.cores, found.memory, *short)

    return ask


def test_without_limits_it_is_the_machine(machine):
    assert machine({}) == Resources(16, 64 * GIB)


def test_a_container_of_version_2(machine):
    found = machine({"cpu.max": "250000 100000", "memory.max": str(6 * GIB)})
    assert found == Resources(2, 6 * GIB, "cpu.max", "memory.max")


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 16), ("50000 100000", 1), ("3200000 100000", 16)]
)
def test_quotas_of_none_of_half_a_core_and_of_more_than_there_are(machine, quota, cores):
    assert machine({"cpu.max": quota, "memory.max": "max"}) == Resources(
        cores, 64 * GIB, "cpu.max" if cores == 1 else ""
    )


def test_a_container_of_version_1(machine):
    found = machine(
        {
            "cpu,cpuacct/cpu.cfs_quota_us": "400000",
            "cpu,cpuacct/cpu.cfs_period_us": "100000",
            "memory/memory.limit_in_bytes": str(2 * GIB),
        },
        own="4:memory:/docker/1f\n3:cpu,cpuacct:/docker/1f\n",  # paths of the host, which are not here
    )
    assert found == Resources(4, 2 * GIB, "cpu,cpuacct/cpu.cfs_quota_us", "memory/memory.limit_in_bytes")


def test_no_quota_and_no_limit_of_version_1(machine):
    files = {
        "cpu/cpu.cfs_quota_us": "-1",
        "cpu/cpu.cfs_period_us": "100000",
        "memory/memory.limit_in_bytes": "9223372036854771712",
    }
    assert machine(files, own="4:memory:/\n3:cpu:/\n") == Resources(16, 64 * GIB)


def test_a_service_without_a_container_has_the_limits_of_all_groups_above_it(machine):
    found = machine(
        {
            "system.slice/memory.max": str(8 * GIB),
            "system.slice/cpu.max": "max 100000",
            "system.slice/tilestream.service/memory.max": "max",
            "system.slice/tilestream.service/cpu.max": "300000 100000",
            "user.slice/cpu.max": "100000 100000",  # not ours
        },
        own="0::/system.slice/tilestream.service\n",
    )
    assert found == Resources(
        3, 8 * GIB, "system.slice/tilestream.service/cpu.max", "system.slice/memory.max"
    )


def test_nonsense_and_missing_files_are_no_limits(machine, tmp_path):
    assert machine({"cpu.max": "", "memory.max": "much"}, own="nothing\n") == Resources(16, 64 * GIB)
    assert resources(tmp_path / "none", tmp_path / "none", 4, None).cores == 4


def test_this_machine_can_be_asked():
    assert resources().cores >= 1 and resources().memory > 0


@pytest.fixture
def threads_as_before():
    torch_threads, opencv_threads = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(torch_threads)
    cv2.setNumThreads(opencv_threads)


@pytest.mark.parametrize(
    ("wanted", "cores", "expected"), [(0, 2, (2, 2)), (0, 16, (8, 8)), (3, 2, (3, 2)), (1, 16, (1, 8))]
)
def test_threads_of_pytorch_and_opencv_follow_the_cores(threads_as_before, wanted, cores, expected):
    torch.set_num_threads(8)
    cv2.setNumThreads(8)
    use_threads(wanted, cores)
    assert (torch.get_num_threads(), cv2.getNumThreads()) == expected


def test_engines_divide_up_the_quota(monkeypatch):
    monkeypatch.setattr("tilestream.engine.device.resources", lambda: Resources(5, None))
    cpu = torch.device("cpu")
    assert [divide(cpu, threads, (0, 2))[1] for threads in (0, 3)] == [2, 3]
    assert divide(cpu, 0, (0, 8))[1] == 1


def test_the_features_memory_follows_the_limit():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert default_store_bytes(cpu, 64 * GIB, (0, 1)) == 2 * GIB
    assert default_store_bytes(cpu, 3 * GIB, (0, 1)) == GIB
    assert default_store_bytes(cpu, 3 * GIB, (1, 2)) == GIB // 2
    assert default_store_bytes(cpu, None, (0, 1)) == 2 * GIB
    assert default_store_bytes(gpu, 3 * GIB, (0, 1)) == 2 * GIB  # of the device, which has its own


@pytest.mark.parametrize(("cores", "wanted", "threads"), [(16, 0, 2), (1, 0, 1), (1, 4, 4)])
async def test_media_threads_follow_the_cores(monkeypatch, caplog, threads_as_before, cores, wanted, threads):
    caplog.set_level("INFO")
    monkeypatch.setattr("tilestream.server.resources", lambda: Resources(cores, None))
    async with running(media_threads=wanted):
        names = {thread.name for thread in threading.enumerate()}
        assert {f"media_{number}" for number in range(threads)} <= names
        assert cv2.getNumThreads() <= cores
        (line,) = [record for record in caplog.records if record.message == "serving"]
        assert (line.cores, line.media_threads) == (cores, threads)
