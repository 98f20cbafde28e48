"""What the stream command writes: an overlay video, mask files, a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tilestream_client import masks, overlay
from tilestream_client.cli.files import OutputError, Replacement, named, write_file
from tilestream_client.info import UInt8Array
from tilestream_client.libav import libav, libav_failures
from tilestream_client.outputs import Region, Rule
from tilestream_client.result import Result

_ENCODER_THREADS = 2  # leave the cores to whatever computes the masks


class RegionMarks:
    """Regions over pictures, those in which a rule holds marked."""

    def __init__(self, regions: Sequence[Region] = (), rules: Sequence[Rule] = ()) -> None:
        self._regions = regions
        self._region_of = {rule.name: rule.region for rule in rules}
        self._holding: set[str] = set()

    def draw(self, result: Result, picture: UInt8Array) -> UInt8Array:
        """With what began or ended with a frame."""
        for event in result.events:
            (self._holding.add if event.kind == "began" else self._holding.discard)(event.rule)
        if not self._regions:
            return picture
        active = {self._region_of.get(rule, "") for rule in self._holding}
        return overlay.draw_regions(picture, self._regions, active)


class OverlayVideo:
    """Each frame with its mask over it, a line that says how it went, and a legend; H.264 if possible.

    Every frame of the source gets one, so the video keeps its length: dropped ones show the bare image.
    The size is that of the first frame; later frames of another size are fitted into it.
    show_bins: tint what was computed, and add a line about it. marks: regions to draw.
    """

    def __init__(
        self, path: Path, fps: float, *, show_bins: bool = False, marks: RegionMarks | None = None
    ) -> None:
        libav()  # raises where it is not installed
        self._path = path
        self._file = Replacement(path)
        self._failed = False
        self._show_bins = show_bins
        self._marks = marks or RegionMarks()
        self._fps = Fraction(fps).limit_denominator(1001)
        self._container: Any = None
        self._stream: Any = None
        self._size = (0, 0)
        self._legend: UInt8Array | None = None
        self._last: UInt8Array | None = None

    def add(self, result: Result) -> None:
        """Write one frame; frames before the first that is an image are left out."""
        drawable = result.ok and result.image is not None
        picture = _overlaid(result, self._show_bins) if drawable else result.image
        picture = self._marks.draw(result, picture) if picture is not None else None
        picture = self._last if picture is None else picture
        if picture is None:
            return
        self._last = picture
        try:
            with named(self._path):
                self._write(result, picture)
        except BaseException:
            self._failed = True
            raise

    def _write(self, result: Result, picture: UInt8Array) -> None:
        if self._container is None:
            self._open(result, picture)
        width, height = self._size
        page = np.concatenate([overlay.fit(picture, width, height), *self._lines(result), self._legend])  # type: ignore[list-item]
        frame = libav().VideoFrame.from_ndarray(np.ascontiguousarray(page), format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file; where writing it has failed, or there was no frame, there is none."""
        container, self._container = self._container, None
        try:
            with named(self._path):
                if container is not None and not self._failed:
                    container.mux(self._stream.encode(None))
                if container is not None:
                    container.close()
        except OutputError:
            failed, self._failed = self._failed, True
            if not failed:  # else that was told
                raise
        finally:
            if container is None or self._failed:
                self._file.discard()
        if container is not None and not self._failed:
            self._file.commit()

    def _lines(self, result: Result) -> list[UInt8Array]:
        """What is said about a frame; of one height for all frames."""
        lines = [overlay.text_line(describe(result, with_reuse=not self._show_bins), self._size[0])]
        if self._show_bins:
            lines.append(overlay.bins_line(describe_reuse(result), self._size[0]))
        return lines

    def _open(self, result: Result, picture: UInt8Array) -> None:
        # The pixel format of H.264 players wants even sides; lines and legend have even heights.
        self._size = (picture.shape[1] + 1) // 2 * 2, (picture.shape[0] + 1) // 2 * 2
        self._legend = overlay.legend(result.classes, self._size[0])
        strips = [*self._lines(result), self._legend]
        height = self._size[1] + sum(strip.shape[0] for strip in strips)
        av = libav()
        codec = "libx264" if "libx264" in av.codec.codecs_available else "mpeg4"
        options = {"crf": "20", "preset": "veryfast"} if codec == "libx264" else {"qscale": "3"}
        try:
            self._container = av.open(str(self._file.path), "w")
            self._stream = self._container.add_stream(codec, rate=self._fps, options=options)
        except libav_failures(ValueError) as error:
            raise OutputError(f"cannot write {self._path}: {error}") from error
        self._stream.width, self._stream.height, self._stream.pix_fmt = self._size[0], height, "yuv420p"
        self._stream.codec_context.thread_count = _ENCODER_THREADS


class MaskFolder:
    """One palette PNG per frame with a mask, named after the source's file or its number."""

    def __init__(self, folder: Path) -> None:
        with named(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._taken: set[str] = set()  # only names that files gave, which are bounded

    def add(self, result: Result) -> None:
        """Write the mask; PNGs as the server made them, byte for byte."""
        if result.mask is None or result.labels is None:
            return
        is_png = result.mask.encoding == "png"
        data = result.mask.data if is_png else masks.encode_png(result.labels, result.palette)
        write_file(self._folder / self._name(result), lambda path: path.write_bytes(data))

    def close(self) -> None:
        """Nothing is left to do."""

    def _name(self, result: Result) -> str:
        if not result.name:
            return f"{result.frame_id:06d}.png"
        name = f"{Path(result.name).stem}.png"
        if name in self._taken:  # a.jpg and a.png of one folder
            name = f"{Path(result.name).name}.png"
        self._taken.add(name)
        return name


class ContactSheet:
    """A picture of a few frames, spread evenly over a stream whose length need not be known."""

    def __init__(self, path: Path, rows: int = 4, width: int = 1200, *, show_bins: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._show_bins = show_bins
        self._path, self._rows, self._width = path, rows, width
        self._stride = 1
        self._seen = 0
        self._picks: list[tuple[str, UInt8Array, UInt8Array]] = []
        self._result: Result | None = None

    def add(self, result: Result) -> None:
        """Keep every n-th frame with a mask; whenever twice too many are kept, every other goes."""
        if not result.ok or result.image is None:
            return
        if self._seen % self._stride == 0:
            overlaid = self._shrink(_overlaid(result, self._show_bins))
            self._picks.append((self._caption(result), self._shrink(result.image), overlaid))
            self._result = result
        self._seen += 1
        if len(self._picks) > 4 * self._rows:
            self._picks = self._picks[::2]
            self._stride *= 2

    def close(self) -> None:
        """Write the picture, if there was any frame."""
        if self._result is None:
            return
        count = min(self._rows, len(self._picks))
        chosen = [
            self._picks[index] for index in np.linspace(0, len(self._picks) - 1, count).round().astype(int)
        ]
        sheet = overlay.contact_sheet(chosen, self._result.classes, self._width)
        write_file(self._path, Image.fromarray(sheet).save)

    def _caption(self, result: Result) -> str:
        if not self._show_bins:
            return describe(result)
        return f"{describe(result, with_reuse=False)} · {describe_reuse(result)}"

    def _shrink(self, image: UInt8Array) -> UInt8Array:
        """Small enough to keep several of a long stream."""
        width = min(image.shape[1], self._width // 2)
        return overlay.fit(image, width, max(1, round(width * image.shape[0] / image.shape[1])))


def describe(result: Result, *, with_reuse: bool = True) -> str:
    """One line about a frame."""
    parts = [result.name or f"frame {result.frame_id}"]
    if not result.ok:
        return " · ".join([*parts, str(result.status), result.detail or result.reason])
    parts.append(f"{result.latency * 1e3:.0f} ms")
    if with_reuse and result.reuse is not None:
        reused = f"{result.reuse.block_drop_rate:.0%} reused"
        parts.append("key frame" if result.reuse.key_frame else reused)
    parts += [f"{event.rule} {event.kind}" for event in result.events]
    return " · ".join(parts)


def describe_reuse(result: Result) -> str:
    """One line about what was computed for a frame and what was reused."""
    if result.reuse is None:
        return "no mask for this frame"
    parts = [
        "key frame" if result.reuse.key_frame else "partial frame",
        f"block drop rate {result.reuse.block_drop_rate:.0%}",
        f"mean distortion {result.reuse.mean_distortion:.3g} luma steps",
    ]
    return " · ".join(parts if result.bins is not None else [*parts, "no account of the bins"])


def _overlaid(result: Result, show_bins: bool) -> UInt8Array:
    """The overlay of a frame with a mask; with its bins where they are wanted and the server sent them."""
    return result.overlay(show_bins=show_bins and result.bins is not None)
