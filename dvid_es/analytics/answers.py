"""A result as bytes: JSON, CSV, Arrow or Parquet."""

import datetime
import io
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa

_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=str).encode


def to_json(table: pa.Table, seq: int) -> bytes:
    """Return `{"columns", "rows", "seq"}`: whole numbers of any size are numbers, times are texts."""
    columns = [_plain(column) for column in table.columns]
    rows = list(zip(*columns, strict=True)) if columns else []
    return _encode({"columns": table.column_names, "rows": rows, "seq": seq})


def _plain(column: pa.ChunkedArray) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if pa.types.is_nested(column.type) or not _simple(column.type):
        return [_value(value) for value in values]
    return values


def _simple(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_boolean(kind)


def _value(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, pa.MonthDayNano):
        months, days, nanoseconds = value
        return {"months": months, "days": days, "seconds": nanoseconds / 1e9}
    if isinstance(value, list | tuple):
        return [_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _value(item) for key, item in value.items()}
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    return value


def to_csv(table: pa.Table, seq: int) -> bytes:
    """Return a line of names, then a line for each row; nested values are JSON."""
    from pyarrow import csv

    del seq
    columns = []
    for column in table.columns:
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
            texts = [
                None if value is None else _encode(_value(value)).decode()
                for value in column.to_pylist()
            ]
            column = pa.array(texts, pa.string())
        elif not (pa.types.is_primitive(column.type) or pa.types.is_string(column.type)):
            column = pa.array([None if v is None else str(v) for v in column.to_pylist()])
        columns.append(column)
    out = io.BytesIO()
    csv.write_csv(pa.table(columns, names=table.column_names), out)
    return out.getvalue()


def to_arrow(table: pa.Table, seq: int) -> bytes:
    """Return a stream of Arrow's interprocess format."""
    del seq
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def to_parquet(table: pa.Table, seq: int) -> bytes:
    """Return a Parquet file, compressed with zstd."""
    import pyarrow.parquet as pq

    del seq
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


FORMATS: Mapping[str, Callable[[pa.Table, int], bytes]] = {
    "json": to_json,
    "csv": to_csv,
    "arrow": to_arrow,
    "parquet": to_parquet,
}
