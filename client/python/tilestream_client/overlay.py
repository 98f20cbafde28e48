"""Labels as pictures: colours, overlays, legends and contact sheets. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tilestream_client.bins import Bins
from tilestream_client.findings import Instance
from tilestream_client.info import LabelClass, UInt8Array
from tilestream_client.outputs import Region

_INK, _PAPER = (235, 235, 235), (24, 26, 30)
_ALARM = (235, 40, 40)
_FONT_SIZE = 13
_LINE = 20  # pixels from one line of text to the next
_GAP = 12

_RAMP = ((255, 225, 60), (255, 130, 20), (225, 20, 30))  # tints of bins from little to everything computed
_RAMP_WIDTH = 60
_TINT = (0.15, 0.35)  # how much of the tint there is, from little to everything computed: labels stay visible
_DIMMED = 0.75  # brightness that is left of bins without anything computed
_BORDER_SHARE = 720  # pixels of a picture's shorter side for each pixel of the borders' width
_MIN_BORDERED = 8  # times the borders' width: the smallest bin that gets them


def colorize(labels: UInt8Array, palette: UInt8Array) -> UInt8Array:
    """uint8 [H, W] labels, uint8 [256, 3] palette -> uint8 [H, W, 3]."""
    return np.take(palette, labels, axis=0)


def blend(image: UInt8Array, labels: UInt8Array, palette: UInt8Array, alpha: float = 0.5) -> UInt8Array:
    """The labels' colours over uint8 [H, W, 3]; labels of another size are scaled (nearest) to fit."""
    height, width = image.shape[:2]
    if labels.shape != (height, width):
        labels = np.asarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
    return np.asarray(cv2.addWeighted(image, 1 - alpha, colorize(labels, palette), alpha, 0), np.uint8)


def draw_bins(picture: UInt8Array, bins: Bins) -> UInt8Array:
    """What the network computed for a frame, over a picture of that frame of any size.

    uint8 [H, W, 3] RGB -> a new array of the same shape. A bin of which nothing was computed is dimmed; the
    others are tinted and framed, from yellow to red the deeper the network ran (``Bins.depth``). A frame that
    was computed in full is framed only: its labels are what there is to see.
    """
    height, width = picture.shape[:2]
    columns, rows = bins.edges(width, height)
    drawn, whole = picture.copy(), bool((bins.depth == 1).all())
    line = _line(picture)
    for (row, column), depth in np.ndenumerate(bins.depth):
        place = slice(rows[row], rows[row + 1]), slice(columns[column], columns[column + 1])
        _draw_bin(drawn[place], float(depth), line, tinted=not whole)
    return drawn


def draw_instances(
    picture: UInt8Array, instances: Sequence[Instance], size: tuple[int, int], classes: Sequence[LabelClass]
) -> UInt8Array:
    """Outlines of instances, or their boxes where they have no polygons, in their classes' colours.

    uint8 [H, W, 3] RGB -> a new array of the same shape. ``size``: (width, height) of the masks.
    """
    drawn, colors = picture.copy(), {each.value: each.color for each in classes}
    height, width = picture.shape[:2]
    scale, line = (width / size[0], height / size[1]), _line(picture)
    for each in reversed(instances):  # the smallest last: on top
        x, y, right, bottom = (
            each.box.x,
            each.box.y,
            each.box.x + each.box.width,
            each.box.y + each.box.height,
        )
        shapes = each.polygons or (np.array(((x, y), (right, y), (right, bottom), (x, bottom))),)
        outlines = [np.rint(shape * scale).astype(np.int32) for shape in shapes]
        cv2.polylines(drawn, outlines, True, _PAPER, line + 2)
        cv2.polylines(drawn, outlines, True, colors.get(each.value, _INK), line)
    return drawn


def draw_regions(picture: UInt8Array, regions: Sequence[Region], active: Collection[str] = ()) -> UInt8Array:
    """Outlines and names of regions; those in which a rule holds (``active``, by name) in red.

    uint8 [H, W, 3] RGB -> a new array of the same shape.
    """
    height, width = picture.shape[:2]
    drawn, line = picture.copy(), _line(picture)
    places = [np.rint(np.array(each.points) * (width, height)).astype(np.int32) for each in regions]
    for region, place in zip(regions, places, strict=True):
        cv2.polylines(drawn, [place], True, _ALARM if region.name in active else _INK, line + 1)
    labelled = Image.fromarray(drawn)
    draw = ImageDraw.Draw(labelled)
    for region, place in zip(regions, places, strict=True):
        x, y = place.min(axis=0) + 4
        color = _ALARM if region.name in active else _INK
        draw.text((x, y), region.name, fill=color, font=_font(), stroke_width=2, stroke_fill=_PAPER)
    return np.array(labelled)


def _line(picture: UInt8Array) -> int:
    """Width of lines that suit a picture, pixels."""
    return max(1, round(min(picture.shape[:2]) / _BORDER_SHARE))


def bins_line(text: str, width: int) -> UInt8Array:
    """One line of text as uint8 [20, width, 3]; where there is room, with what the tints of bins mean."""
    line = Image.fromarray(text_line(text, width))
    draw = ImageDraw.Draw(line)
    before, after = "blocks run: few", "all"
    left = width - 8 - round(_font().getlength(after)) - 8 - _RAMP_WIDTH
    start = left - 8 - round(_font().getlength(before))
    if start < 8 + _font().getlength(text) + _GAP:
        return np.array(line)
    draw.text((start, 3), before, fill=_INK, font=_font())
    draw.text((left + _RAMP_WIDTH + 8, 3), after, fill=_INK, font=_font())
    for x in range(_RAMP_WIDTH):
        draw.line((left + x, 5, left + x, 15), fill=_ramp(x / (_RAMP_WIDTH - 1)))
    return np.array(line)


def _ramp(depth: float) -> tuple[int, int, int]:
    """The tint for 0 (just above nothing) to 1 (everything)."""
    stops = np.linspace(0, 1, len(_RAMP))
    red, green, blue = (
        round(float(np.interp(depth, stops, channel))) for channel in zip(*_RAMP, strict=True)
    )
    return red, green, blue


def _draw_bin(patch: UInt8Array, depth: float, line: int, *, tinted: bool) -> None:
    """Tint and frame one bin in place: ``patch`` is uint8 [h, w, 3], borders ``line`` wide.

    A bin that is so small in the picture that borders would hide it gets none.
    """
    if not patch.size:  # a tiny picture may have fewer pixels than bins
        return
    color = _ramp(depth)
    if depth == 0:
        patch[:] = cv2.convertScaleAbs(patch, alpha=_DIMMED)
    elif tinted:
        alpha = _TINT[0] + (_TINT[1] - _TINT[0]) * depth
        patch[:] = cv2.addWeighted(patch, 1 - alpha, np.full_like(patch, color), alpha, 0)
    if min(patch.shape[:2]) < _MIN_BORDERED * line:
        return
    if depth > 0:
        inside = patch[line:, line:]
        inside[:line] = inside[-line:] = color
        inside[:, :line] = inside[:, -line:] = color
    patch[:line] = patch[:, :line] = _PAPER


def fit(image: UInt8Array, width: int, height: int) -> UInt8Array:
    """Scale uint8 [h, w, 3] to uint8 [height, width, 3], keeping its shape; dark borders fill the rest."""
    if image.shape[:2] == (height, width):
        return image
    scale = min(width / image.shape[1], height / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = _PAPER
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=method)
    return canvas


def legend(classes: Sequence[LabelClass], width: int) -> UInt8Array:
    """A strip uint8 [height, width, 3] with a patch of colour and the name of every class."""
    places, rows = _legend_layout(classes, width)
    strip = Image.new("RGB", (width, rows * _LINE + 8), _PAPER)
    draw = ImageDraw.Draw(strip)
    for item, (left, row) in zip(classes, places, strict=True):
        top = row * _LINE + 4
        draw.rectangle((left, top + 4, left + 12, top + 16), fill=item.color, outline=_INK)
        draw.text((left + 18, top + 3), item.name, fill=_INK, font=_font())
    return np.array(strip)


def text_line(text: str, width: int) -> UInt8Array:
    """One line of text as uint8 [20, width, 3]."""
    line = Image.new("RGB", (width, _LINE), _PAPER)
    ImageDraw.Draw(line).text((8, 3), text, fill=_INK, font=_font())
    return np.array(line)


def contact_sheet(
    rows: Sequence[tuple[str, UInt8Array, UInt8Array]], classes: Sequence[LabelClass], width: int = 1200
) -> UInt8Array:
    """A picture uint8 [H, width, 3]: a caption, image and overlay side by side for each row; then a legend.

    rows: (caption, image, overlay), the last two uint8 [h, w, 3].
    """
    cell = (width - 3 * _GAP) // 2
    parts = []
    for caption, image, overlaid in rows:
        height = max(1, round(cell * image.shape[0] / image.shape[1]))
        parts.append(text_line(caption, width))
        pair = np.empty((height + _GAP, width, 3), np.uint8)
        pair[:] = _PAPER
        pair[:height, _GAP : _GAP + cell] = fit(image, cell, height)
        pair[:height, 2 * _GAP + cell : 2 * _GAP + 2 * cell] = fit(overlaid, cell, height)
        parts.append(pair)
    return np.concatenate([*parts, legend(classes, width)])


def _legend_layout(classes: Sequence[LabelClass], width: int) -> tuple[list[tuple[int, int]], int]:
    """(left, row) of every class, filled line by line, and the number of rows."""
    places, left, row = [], 8, 0
    for item in classes:
        needed = 18 + round(_font().getlength(item.name)) + _GAP
        if left > 8 and left + needed > width:
            left, row = 8, row + 1
        places.append((left, row))
        left += needed
    return places, row + 1


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=_FONT_SIZE)
