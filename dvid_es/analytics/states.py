"""Tables of the present: versions and instances, and what instances hold at a version."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dvid_es.analytics.parts import PartWriter, State
from dvid_es.analytics.touched import Described, Table
from dvid_es.errors import InvalidRequest
from dvid_es.projections.catalog import Instance, Repo
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import UNBOUNDED

if TYPE_CHECKING:
    from dvid_es.analytics.export import Wanted

VERSIONS = pa.schema(
    [
        ("version", pa.int32()),
        ("uuid", pa.string()),
        ("branch", pa.string()),
        ("parents", pa.list_(pa.int32())),
        ("parent_seq", pa.int64()),
        ("note", pa.string()),
        ("locked", pa.bool_()),
        ("created", pa.timestamp("us")),
        ("updated", pa.timestamp("us")),
    ]
)

INSTANCES = pa.schema(
    [
        ("instance", pa.int32()),
        ("name", pa.string()),
        ("type", pa.string()),
        ("uuid", pa.string()),
        ("version", pa.int32()),
        ("deleted", pa.bool_()),
    ]
)

_KINDS = {"u64": pa.uint64(), "i32": pa.int32(), "text": pa.string(), "bytes": pa.binary()}


def versions_table(repo: Repo) -> pa.Table:
    """Return the versions of a repository, in the order of their creation."""
    rows = [
        {
            "version": version.id,
            "uuid": version.uuid,
            "branch": version.branch,
            "parents": list(version.parents),
            "parent_seq": None if version.parent_bound >= UNBOUNDED >> 1 else version.parent_bound,
            "note": version.note,
            "locked": version.locked,
            "created": version.created_ns // 1000,
            "updated": version.updated_ns // 1000,
        }
        for _, version in sorted(repo.graph.by_id.items())
    ]
    return pa.Table.from_pylist(rows, VERSIONS)


def instances_table(repo: Repo) -> pa.Table:
    """Return the data instances of a repository, in the order of their creation."""
    rows = [
        {
            "instance": number,
            "name": instance.name,
            "type": instance.typename,
            "uuid": instance.data_uuid,
            "version": instance.version,
            "deleted": instance.deleted,
        }
        for number, instance in sorted(repo.instances.items())
    ]
    return pa.Table.from_pylist(rows, INSTANCES)


def table_of(described: Described, instance: Instance, name: str) -> Table:
    """Return the table of that name that an instance has.

    Raises:
        InvalidRequest: its datatype has no such table.
    """
    tables = described.tables.get(instance.typename, {})
    if name not in tables:
        known = ", ".join(sorted(tables)) or "none"
        raise InvalidRequest(
            f'"{instance.name}" is a {instance.typename}, which has no table "{name}"; it has: {known}'
        )
    return tables[name]


def pages(txn: ReadTxn, table: Table, instance: Instance, version: int) -> Iterator[pa.Table]:
    """Iterate over a table of an instance as a version sees it."""
    schema = pa.schema([(name, _KINDS[kind]) for name, kind in table.columns.items()])
    view = txn.view(version if instance.versioned else 1)
    for columns in table.read(txn, instance, view):
        yield pa.table(
            [_array(column, field.type) for column, field in zip(columns, schema, strict=True)],
            schema=schema,
        )


def schema_of(table: Table) -> pa.Schema:
    """Return the columns of a table."""
    return pa.schema([(name, _KINDS[kind]) for name, kind in table.columns.items()])


def _array(column: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(column, np.ndarray):
        return pa.array(np.ascontiguousarray(column))
    return pa.array(column, kind)


def write_states(
    writer: PartWriter, txn: ReadTxn, described: Described, wanted: Sequence["Wanted"], seq: int
) -> Iterator[State]:
    """Write tables of instances at versions, and tell of each when it is durable.

    Raises:
        InvalidRequest: there is no such instance or table.
    """
    for table, name, version in wanted:
        instance = txn.repo.names.get(name)
        if instance is None:
            raise InvalidRequest(f'there is no data instance "{name}"')
        found = table_of(described, instance, table)
        uuid = txn.repo.graph.by_id[version].uuid
        file = f"{table}/{instance.data_uuid}/{uuid}-{seq:012d}.parquet"
        with writer.open(schema_of(found), file) as out:
            for page in pages(txn, found, instance, version):
                out.write(page)
        yield State(table=table, instance=name, version=uuid, seq=seq, rows=out.rows, file=file)
