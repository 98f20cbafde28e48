"""What commands write: no input is overwritten, nothing is left half written, errors name the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import tilestream_client
from tilestream_client import jpeg
from tilestream_client.cli import app
from tilestream_client.cli.files import PICTURE_SUFFIXES, VIDEO_SUFFIXES

GRAY = np.full((32, 48, 3), 90, np.uint8)


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "frames"
    path.mkdir()
    (path / "a.jpg").write_bytes(jpeg.encode(GRAY))
    Image.fromarray(GRAY).save(path / "b.png")
    return path


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(server, *arguments: object) -> str:
    """What the command says; nothing was sent."""
    result = run(*arguments, "--server", server.target)
    assert result.exit_code == 2 and "Traceback" not in result.output and not server.records, result.output
    assert result.output.count("\n") == 1
    return result.output


@pytest.mark.parametrize("option", ["--out", "--json", "--contact-sheet"])
@pytest.mark.parametrize("way", ["directly", "spelled otherwise", "by a link", "by a hard link"])
def test_an_output_that_is_the_input_is_refused(serve, tmp_path, option, way):
    source = tmp_path / "frame.png"
    Image.fromarray(GRAY).save(source)
    if option == "--out":
        source = source.rename(tmp_path / "frame.mp4.png")
    before = source.read_bytes()
    other = tmp_path / ("other.mp4" if option == "--out" else "other.png")
    if way == "directly":
        other = source
    elif way == "spelled otherwise":
        other = tmp_path / "x" / ".." / source.name
    elif way == "by a link":
        other.symlink_to(source)
    else:
        other.hardlink_to(source)
    if option == "--out" and other.suffix != ".mp4":
        pytest.skip("no video has that name")
    assert f"{other} is the input" in refused(serve(), "stream", source, option, other)
    assert source.read_bytes() == before


def test_masks_over_the_frames_are_refused(serve, folder, tmp_path):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    link = tmp_path / "link"
    link.symlink_to(folder)
    for masks in (folder, link, folder / ".." / folder.name):
        assert "is the input" in refused(serve(), "stream", folder, "--masks", masks)
    assert "is the input" in refused(serve(), "stream", folder, "--json", folder / "a.jpg")
    assert "holds the input b.png" in refused(serve(), "stream", folder / "b.png", "--masks", folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_load_report_over_its_video_is_refused(serve, folder):
    video = folder / "a.jpg"
    assert "is the input" in refused(serve(), "load", "--video", video, "--json", video, "--seconds", 1)


def test_one_place_for_two_outputs_is_refused(serve, folder, tmp_path):
    assert "for --json and for --contact-sheet" in refused(
        serve(), "stream", folder, "--json", tmp_path / "x.png", "--contact-sheet", tmp_path / "y/../x.png"
    )
    assert "is a folder" in refused(serve(), "stream", folder, "--json", tmp_path)
    assert "is a file" in refused(serve(), "stream", folder / "a.jpg", "--masks", folder / "b.png")


@pytest.mark.parametrize(
    ("option", "name", "taken"),
    [
        *(("--out", f"o{end}", ".mp4") for end in (".webm", ".gif", ".jpg", ".xyz", "")),
        *(("--contact-sheet", f"sheet{end}", ".png") for end in (".xyz", ".mp4", ".pdf", "")),
    ],
)
def test_formats_are_checked_before_the_first_frame(serve, folder, tmp_path, option, name, taken):
    said = refused(serve(), "stream", folder, option, tmp_path / name)
    assert option in said and name in said and taken in said
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("suffix", [*VIDEO_SUFFIXES, ".MP4"])
def test_every_video_format_that_is_named_is_written(serve, folder, tmp_path, suffix):
    out = tmp_path / f"o{suffix}"
    result = run("stream", folder, "--server", serve().target, "--out", out)
    assert result.exit_code == 0, result.output
    assert tilestream_client.VideoFile(out).size[0] == 48


@pytest.mark.parametrize("suffix", [*PICTURE_SUFFIXES, ".PNG"])
def test_every_picture_format_that_is_named_is_written(serve, folder, tmp_path, suffix):
    sheet = tmp_path / f"sheet{suffix}"
    result = run("stream", folder, "--server", serve().target, "--contact-sheet", sheet)
    assert result.exit_code == 0, result.output
    with Image.open(sheet) as picture:
        assert picture.size[0] == 1200


# Limited by itself: gRPC may abort what this process forks with Python code to run before another program.
LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
del sys.argv[1]
runpy.run_module("tilestream_client", run_name="__main__", alter_sys=True)
"""


def limited(limit: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command on a disk that takes files of so many bytes only."""
    path = str(Path(tilestream_client.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", LIMITED, str(limit), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("option", "name", "limit"),
    [
        ("--json", "summary.json", 200),
        ("--out", "o.mp4", 2000),
        ("--contact-sheet", "sheet.png", 2000),
        ("--masks", "masks", 20),
    ],
)
def test_a_full_disk_leaves_what_was_there_and_is_told_with_the_file(
    serve, folder, tmp_path, option, name, limit
):
    out = tmp_path / "out"
    place = out / name
    older = place / "a.png" if option == "--masks" else place
    older.parent.mkdir(parents=True)
    older.write_bytes(b"older")
    done = limited(limit, "stream", folder, "--server", serve().target, option, place)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert f"cannot write {older}" in line and "File too large" in line
    assert older.read_bytes() == b"older"
    assert [path.name for path in older.parent.iterdir()] == [older.name], "nothing half written is left"


def test_a_folder_that_cannot_be_made_is_named(serve, folder, tmp_path):
    (tmp_path / "file").write_text("")
    for option, name in (("--masks", "file/masks"), ("--json", "file/s.json"), ("--out", "file/o.mp4")):
        result = run("stream", folder, "--server", serve().target, option, tmp_path / name)
        assert result.exit_code == 1 and f"cannot write {tmp_path / name}" in result.output


def test_a_link_is_written_through_and_permissions_stay(serve, folder, tmp_path):
    real, link = tmp_path / "real.json", tmp_path / "latest.json"
    real.write_text("older")
    real.chmod(0o640)
    link.symlink_to(real)
    assert run("stream", folder, "--server", serve().target, "--json", link).exit_code == 0
    assert link.is_symlink() and json.loads(real.read_text())["frames_ok"] == 2
    assert real.stat().st_mode & 0o777 == 0o640


def test_new_files_have_the_usual_permissions(serve, folder, tmp_path):
    assert run("stream", folder, "--server", serve().target, "--json", tmp_path / "new.json").exit_code == 0
    (tmp_path / "usual").write_text("")
    assert (tmp_path / "new.json").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_what_is_no_file_is_written_to(serve, folder, tmp_path):
    done = limited(1 << 30, "stream", folder, "--server", serve().target, "--json", "/dev/stdout")
    assert done.returncode == 0 and '"frames_ok": 2' in done.stdout
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        assert run("stream", folder, "--server", serve().target, "--json", pipe).exit_code == 0
        assert b'"frames_ok": 2' in reader.communicate()[0]
    assert pipe.is_fifo()
