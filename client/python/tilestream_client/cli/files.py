"""Files that commands write: checked before anything is sent, written beside their place and then renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tilestream_client.errors import TilestreamError
from tilestream_client.libav import libav_failures

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".ts")  # containers that H.264 and MPEG-4 fit into
PICTURE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class OutputError(TilestreamError):
    """A file cannot be written."""


class WrongOutput(OutputError):  # noqa: N818 (the name says it)
    """The command line asks for an output that is refused before anything is sent."""


def check_suffix(option: str, path: Path | None, suffixes: Sequence[str]) -> None:
    """Raises WrongOutput where the name's end does not say one of these formats."""
    if path is not None and path.suffix.lower() not in suffixes:
        raise WrongOutput(f"{option} {path}: the name has to end in one of {' '.join(suffixes)}")


def check_places(
    outputs: Mapping[str, Path | None], folders: Mapping[str, Path | None], inputs: Sequence[Path]
) -> None:
    """Raises WrongOutput where an output would overwrite an input (a file, a folder) or another output.

    outputs, folders: by their options, files and folders to write; None: not wanted.
    """
    files = {option: path for option, path in outputs.items() if path is not None}
    trees = {option: path for option, path in folders.items() if path is not None}
    for option, path in {**files, **trees}.items():
        if any(_same(path, each) for each in inputs):
            raise WrongOutput(f"{path} is the input: give {option} another name")
    taken: dict[str, str] = {}
    for option, path in {**files, **trees}.items():
        place = os.path.realpath(path)
        if place in taken:
            raise WrongOutput(f"{path} is given for {taken[place]} and for {option}")
        taken[place] = option
    for option, path in files.items():
        if path.is_dir():
            raise WrongOutput(f"{option} {path} is a folder; give it the name of a file")
    for option, path in trees.items():
        if path.exists() and not path.is_dir():
            raise WrongOutput(f"{option} {path} is a file; give it the name of a folder")
        for each in inputs:  # a.png, whose mask would be a.png, too
            if each.suffix.lower() == ".png" and _same(each.parent, path) and each.is_file():
                raise WrongOutput(f"{path} holds the input {each.name}: give {option} another folder")


def _same(one: Path, other: Path) -> bool:
    """Whether both lead to one file or folder, also by links and where neither exists yet."""
    try:
        return one.samefile(other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """What goes wrong with writing within becomes an OutputError with the file's name."""
    try:
        yield
    except libav_failures(OSError) as error:
        raise OutputError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error


class Replacement:
    """A file to write beside ``place``, which takes that place when it is whole.

    What is no plain file, such as /dev/stdout, is written to directly. Raises OutputError.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self.path = place
        self._target: Path | None = None
        with named(place):
            target = Path(os.path.realpath(place))  # a link is followed, not replaced
            target.parent.mkdir(parents=True, exist_ok=True)
            if place.is_relative_to("/dev") or (place.exists() and not place.is_file()):
                return
            mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
            number, name = tempfile.mkstemp(target.suffix, ".tilestream-", target.parent)
            os.close(number)
            self.path, self._target = Path(name), target
            self.path.chmod(mode)

    def commit(self) -> None:
        """Put it into its place."""
        with named(self._place):
            if self._target is not None:
                self.path.replace(self._target)

    def discard(self) -> None:
        """Leave what was there before as it was."""
        if self._target is not None:
            with suppress(OSError):
                self.path.unlink()


def write_file(place: Path, write: Callable[[Path], object]) -> None:
    """Have ``write`` make the file under the path it is given. Raises OutputError; then nothing changed."""
    replacement = Replacement(place)
    try:
        with named(place):
            write(replacement.path)
        replacement.commit()
    except BaseException:
        replacement.discard()
        raise


def write_text(place: Path, text: str) -> None:
    """Write a text as UTF-8. Raises OutputError; then nothing changed."""
    write_file(place, lambda path: path.write_text(text, encoding="utf-8"))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
