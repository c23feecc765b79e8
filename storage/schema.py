"""The tables' columns and types, and the conversions between rows in memory and Arrow tables.

``site`` and ``date`` (for detections also ``camera``) are partition keys: they come from an object's path and
are never columns of a file. A probability or score that is not known is null in a file and NaN in memory.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.errors import SchemaMismatchError
from storage.records import (
    EMBEDDING_SIZE,
    DetectionColumns,
    EffortRecord,
    EventRecord,
    IndividualRecord,
    TrackRecord,
    VideoRecord,
)

SCHEMA_VERSION: Final = 1
"""Raised when a column changes its name, type or meaning, with a step in ``storage.versions``; pinned in every store
and object."""
PROBABILITY_PREFIX: Final = "p_"
TIME = pa.timestamp("us", tz="UTC")
EMBEDDING = pa.list_(pa.field("item", pa.int8(), nullable=False), EMBEDDING_SIZE)

R = TypeVar("R")


def _schema(columns: Mapping[str, pa.DataType], nullable: frozenset[str] = frozenset()) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=name in nullable) for name, kind in columns.items()])


VIDEOS = _schema(
    {
        "video_id": pa.string(),
        "uri": pa.string(),
        "camera": pa.string(),
        "start_time": TIME,
        "start_source": pa.string(),
        "fps": pa.float64(),
        "frame_count": pa.int64(),
        "duration_s": pa.float64(),
        "width": pa.int32(),
        "height": pa.int32(),
        "container": pa.string(),
        "codec": pa.string(),
        "fingerprint": pa.string(),
        "status": pa.string(),
        "reason": pa.string(),
        "frames_decoded": pa.int64(),
        "survey_mode": pa.string(),
    }
)
TRACKS = _schema(
    {"video_id": pa.string(), "row": pa.int32(), "frame": pa.int32(), "individual_id": pa.string()}
)
INDIVIDUALS = _schema(
    {
        "individual_id": pa.string(),
        "camera": pa.string(),
        "kind": pa.string(),
        "first_seen": TIME,
        "last_seen": TIME,
        "visible_s": pa.float64(),
        "boxes": pa.int32(),
        "track_quality": pa.float32(),
        "p_other": pa.float32(),
    },
    nullable=frozenset({"p_other"}),
)
EFFORT = _schema(
    {
        "camera": pa.string(),
        "hour_start": TIME,
        "recorded_min": pa.float64(),
        "readable_min": pa.float64(),
        "surveyed_min": pa.float64(),
        "decoded_min": pa.float64(),
        "scored_min": pa.float64(),
        "max_individuals": pa.int32(),
    }
)
EVENTS = _schema(
    {
        "event_id": pa.string(),
        "camera": pa.string(),
        "video_id": pa.string(),
        "individual_id": pa.string(),
        "behaviour": pa.string(),
        "start_time": TIME,
        "end_time": TIME,
        "start_s": pa.float64(),
        "end_s": pa.float64(),
        "start_frame": pa.int32(),
        "end_frame": pa.int32(),
        "duration_s": pa.float64(),
        "score_mean": pa.float32(),
        "score_peak": pa.float32(),
        "motion": pa.string(),
        "p_dynamic": pa.float32(),
        "x1": pa.float32(),
        "y1": pa.float32(),
        "x2": pa.float32(),
        "y2": pa.float32(),
        "observations": pa.int32(),
        "model_digest": pa.string(),
        "config_digest": pa.string(),
    },
    nullable=frozenset({"score_mean", "score_peak", "p_dynamic", "x1", "y1", "x2", "y2"}),
)

CAMERA_DAY_SCHEMAS: Final[Mapping[str, pa.Schema]] = MappingProxyType(
    {"videos": VIDEOS, "tracks": TRACKS, "individuals": INDIVIDUALS, "effort": EFFORT, "events": EVENTS}
)
"""Schemas of the tables with one object per camera-day, by the table's name."""
CAMERA_DAY_RECORDS: Final[Mapping[str, type[Any]]] = MappingProxyType(
    {
        "videos": VideoRecord,
        "tracks": TrackRecord,
        "individuals": IndividualRecord,
        "effort": EffortRecord,
        "events": EventRecord,
    }
)
"""Record types of the same tables."""


def detections_schema(behaviours: Sequence[str]) -> pa.Schema:
    """Schema of ``detections``: one ``p_<behaviour>`` column per behaviour, in the ethogram's order."""
    probabilities = [f"{PROBABILITY_PREFIX}{name}" for name in behaviours]
    columns = {
        "video_id": pa.string(),
        "frame": pa.int32(),
        "time_s": pa.float64(),
        **{name: pa.float32() for name in ("x1", "y1", "x2", "y2", "box_score")},
        **{name: pa.float32() for name in probabilities},
        "p_other": pa.float32(),
        "p_dynamic": pa.float32(),
        "embedding": EMBEDDING,
    }
    return _schema(columns, nullable=frozenset({*probabilities, "p_other", "p_dynamic"}))


def schema_of(table: str, behaviours: Sequence[str]) -> pa.Schema:
    """Schema of any table by its name; raises ``SchemaMismatchError`` for a name that is no table."""
    if table == "detections":
        return detections_schema(behaviours)
    if table not in CAMERA_DAY_SCHEMAS:
        raise SchemaMismatchError(f"there is no table {table!r}; known: detections, {_known()}")
    return CAMERA_DAY_SCHEMAS[table]


def table_from_records(records: Sequence[Any], schema: pa.Schema) -> pa.Table:
    """Arrow table of records (dataclasses whose fields are named as the schema's columns).

    Raises:
        SchemaMismatchError: a value does not fit its column; the message names the column.
    """
    return pa.table(
        [_column([getattr(record, field.name) for record in records], field) for field in schema],
        schema=schema,
    )


def records_from_table(table: pa.Table, record_type: Callable[..., R]) -> list[R]:
    """Records of a table, one per row; null becomes NaN.

    Args:
        table: its columns are the fields of ``record_type``.
        record_type: for example ``EventRecord``.
    """
    expected = [field.name for field in dataclasses.fields(record_type)]  # type: ignore[arg-type]
    if table.column_names != expected:
        raise SchemaMismatchError(f"rows need the columns {expected}, got {table.column_names}")
    columns = [_values(table.column(name)) for name in expected]
    return [record_type(*row) for row in zip(*columns, strict=True)]


def table_from_detections(columns: DetectionColumns, behaviours: Sequence[str]) -> pa.Table:
    """Arrow table of one video's boxes.

    Raises:
        SchemaMismatchError: the number of probabilities is not that of ``behaviours``, or shapes are wrong.
    """
    rows = columns.frame.shape[0]
    shapes = {
        "p_behaviour": (rows, len(behaviours)),
        "xyxy": (rows, 4),
        "embedding": (rows, EMBEDDING_SIZE),
    }
    for name, shape in shapes.items():
        if getattr(columns, name).shape != shape:
            got = getattr(columns, name).shape
            raise SchemaMismatchError(f"video {columns.video_id}: {name} must have shape {shape}, got {got}")
    arrays: list[Any] = [
        pa.repeat(pa.scalar(columns.video_id, pa.string()), rows),
        pa.array(columns.frame, pa.int32()),
        pa.array(columns.time_s, pa.float64()),
        *[_float32(columns.xyxy[:, axis]) for axis in range(4)],
        _float32(columns.box_score),
        *[_float32(columns.p_behaviour[:, index], nan_is_null=True) for index in range(len(behaviours))],
        _float32(columns.p_other, nan_is_null=True),
        _float32(columns.p_dynamic, nan_is_null=True),
        pa.FixedSizeListArray.from_arrays(
            pa.array(np.ascontiguousarray(columns.embedding, np.int8).reshape(-1)), type=EMBEDDING
        ),
    ]
    return pa.table(arrays, schema=detections_schema(behaviours))


def detections_from_table(table: pa.Table, video_id: str) -> DetectionColumns:
    """The boxes of one video from its table (which may be empty); behaviours in the order of the columns."""
    behaviours = behaviours_of(table.schema)
    rows = table.num_rows

    def column(name: str, kind: type[np.generic]) -> NDArray[Any]:
        return np.asarray(table.column(name).to_numpy(), kind)

    def stacked(names: Sequence[str]) -> NDArray[np.float32]:
        parts = [column(name, np.float32) for name in names]
        return np.stack(parts, axis=1) if parts else np.zeros((rows, 0), np.float32)

    flat = table.column("embedding").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return DetectionColumns(
        video_id=video_id,
        frame=column("frame", np.int32),
        time_s=column("time_s", np.float64),
        xyxy=stacked(["x1", "y1", "x2", "y2"]),
        box_score=column("box_score", np.float32),
        p_behaviour=stacked([f"{PROBABILITY_PREFIX}{name}" for name in behaviours]),
        p_other=column("p_other", np.float32),
        p_dynamic=column("p_dynamic", np.float32),
        embedding=np.asarray(flat, np.int8).reshape(rows, EMBEDDING_SIZE),
    )


def behaviours_of(schema: pa.Schema) -> tuple[str, ...]:
    """Names of the behaviours that a detections schema has probabilities of."""
    names = [name for name in schema.names if name.startswith(PROBABILITY_PREFIX)]
    return tuple(
        name.removeprefix(PROBABILITY_PREFIX) for name in names if name not in ("p_other", "p_dynamic")
    )


def _known() -> str:
    return ", ".join(CAMERA_DAY_SCHEMAS)


def _float32(values: NDArray[np.float32], nan_is_null: bool = False) -> Any:
    return pa.array(np.ascontiguousarray(values, np.float32), pa.float32(), from_pandas=nan_is_null)


def _column(values: list[Any], field: pa.Field) -> Any:
    if field.type == TIME:
        naive = next((value for value in values if isinstance(value, dt.datetime) and not value.tzinfo), None)
        if naive is not None:
            raise SchemaMismatchError(f"column {field.name}: times need a time zone, got {naive!r}")
    try:
        array = pa.array(values, field.type, from_pandas=field.nullable)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise SchemaMismatchError(f"column {field.name}: {' '.join(str(error).split())}") from error
    if array.null_count and not field.nullable:
        raise SchemaMismatchError(f"column {field.name}: a value is missing in row {values.index(None)}")
    return array


def _values(column: Any) -> list[Any]:
    if pa.types.is_floating(column.type):
        return list(column.to_numpy().tolist())
    return list(column.to_pylist())
