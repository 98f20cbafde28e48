"""Results as lines and rows: ``--jsonl`` and ``--parquet``. One per frame, with the same fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tilestream_client.cli.files import OutputError, Replacement, named
from tilestream_client.findings import ClassArea, Instance
from tilestream_client.result import Result

_ROWS = 512  # that are written to a Parquet file at a time


def record(result: Result) -> dict[str, Any]:
    """A result as plain values; times are seconds, except latency_ms."""
    names = {each.value: each.name for each in result.classes}
    size = result.size or (None, None)
    return {
        "frame_id": result.frame_id,
        "name": result.name,
        "status": str(result.status),
        "reason": result.reason,
        "detail": result.detail,
        "capture_time": result.capture_time,
        "latency_ms": round(result.latency * 1e3, 3),
        "key_frame": result.reuse.key_frame if result.reuse else None,
        "block_drop_rate": round(result.reuse.block_drop_rate, 4) if result.reuse else None,
        "width": size[0],
        "height": size[1],
        "areas": [_area(area, names) for area in result.areas],
        "instances": [_instance(instance, names) for instance in result.instances],
        "regions": [
            {
                "name": region.name,
                "pixels": region.pixels,
                "areas": [_area(area, names) for area in region.areas],
            }
            for region in result.regions
        ],
        "events": [{"rule": each.rule, "kind": each.kind, "time": each.time} for each in result.events],
    }


def _area(area: ClassArea, names: dict[int, str]) -> dict[str, Any]:
    return {
        "value": area.value,
        "class": names.get(area.value, ""),
        "pixels": area.pixels,
        "share": round(area.share, 7),
        "coco_rle": area.coco_rle.decode("ascii"),
    }


def _instance(instance: Instance, names: dict[int, str]) -> dict[str, Any]:
    box = instance.box
    return {
        "value": instance.value,
        "class": names.get(instance.value, ""),
        "pixels": instance.pixels,
        "box": [box.x, box.y, box.width, box.height],
        "centroid": [round(each, 7) for each in instance.centroid],
        "polygons": [[round(float(each), 3) for each in polygon.ravel()] for polygon in instance.polygons],
        "coco_rle": instance.coco_rle.decode("ascii"),
    }


class JsonLines:
    """One line of JSON per frame, written as results come, so that others can follow the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")

    def add(self, result: Result) -> None:
        """Write the line of a frame, whatever became of it."""
        with named(self._path):
            self._file.write(json.dumps(record(result), ensure_ascii=False) + "\n")
            self._file.flush()

    def close(self) -> None:
        """All lines are written."""
        with named(self._path):
            self._file.close()


def parquet() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet. Raises OutputError where they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        text = "--parquet needs pyarrow: pip install 'tilestream-client[parquet]', or use --jsonl"
        raise OutputError(text) from error
    return pyarrow, pyarrow.parquet


class ParquetTable:
    """One row per frame; the file is there when all are written."""

    def __init__(self, path: Path) -> None:
        self._arrow, module = parquet()
        self._path, self._file = path, Replacement(path)
        self._schema = _schema(self._arrow)
        self._rows: list[dict[str, Any]] = []
        self._failed = False
        with named(path):
            self._writer = module.ParquetWriter(str(self._file.path), self._schema)

    def add(self, result: Result) -> None:
        """Keep the row of a frame, and write them some hundred at a time."""
        self._rows.append(record(result))
        if len(self._rows) >= _ROWS:
            self._flush()

    def close(self) -> None:
        """Write what is left; where that fails there is no file."""
        try:
            if not self._failed:
                self._flush()
            with named(self._path):
                self._writer.close()
        finally:
            if self._failed:
                self._file.discard()
        if not self._failed:
            self._file.commit()

    def _flush(self) -> None:
        try:
            with named(self._path):
                self._writer.write_table(self._arrow.Table.from_pylist(self._rows, self._schema))
        except BaseException:
            self._failed = True
            raise
        self._rows = []


def _schema(arrow: Any) -> Any:
    """The types of :func:`record`'s fields."""
    text, whole, real = arrow.string(), arrow.int64(), arrow.float64()
    area = [("value", whole), ("class", text), ("pixels", whole), ("share", real), ("coco_rle", text)]
    instance = [
        ("value", whole), ("class", text), ("pixels", whole), ("box", arrow.list_(whole)),
        ("centroid", arrow.list_(real)), ("polygons", arrow.list_(arrow.list_(real))), ("coco_rle", text),
    ]  # fmt: skip
    region = [("name", text), ("pixels", whole), ("areas", arrow.list_(arrow.struct(area)))]
    event = [("rule", text), ("kind", text), ("time", real)]
    return arrow.schema(
        [
            ("frame_id", whole), ("name", text), ("status", text), ("reason", text), ("detail", text),
            ("capture_time", real), ("latency_ms", real), ("key_frame", arrow.bool_()),
            ("block_drop_rate", real), ("width", whole), ("height", whole),
            ("areas", arrow.list_(arrow.struct(area))), ("instances", arrow.list_(arrow.struct(instance))),
            ("regions", arrow.list_(arrow.struct(region))), ("events", arrow.list_(arrow.struct(event))),
        ]
    )  # fmt: skip
