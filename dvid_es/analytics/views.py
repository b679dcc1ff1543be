"""The views that queries see, made from exported files and the events that are not exported yet."""

from collections.abc import Sequence
from typing import Any

import msgspec


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """All that a worker needs to answer one query."""

    sql: str
    parameters: list[Any] | dict[str, Any] | None = None
    format: str = "json"
    folder: str
    """Of the exported files."""

    events: list[str]
    """Exported files, from the folder."""

    labels: list[str]
    daily: list[str]
    tail_events: list[str]
    """Arrow files of what is not exported yet."""

    tail_labels: list[str]
    tail_from: int
    """Sequence of the first event that counts in them."""

    versions: list[str]
    """UUIDs by ordinal, from 0, which is none."""

    instances: list[str]
    """Names by number, from 0, which is none."""

    tables: dict[str, str]
    """Arrow files of `_versions` and `_instances`."""

    states: dict[str, dict[str, list[str]]] = {}
    """Arrow files of tables of instances, by name of the function and by the version asked for."""

    seq: int
    """The last event that is seen."""

    seconds: float
    """After which the worker is ended by the system."""

    memory_bytes: int
    threads: int
    result_bytes: int


VIEWS = (
    "events", "mutations", "labels", "lineage", "users_daily", "versions", "instances",
)  # fmt: skip
"""What a query may read, besides what it defines itself."""

FUNCTIONS = {
    "bodies_at": "bodies",
    "mapping_at": "mapping",
    "keyvalues_at": "keyvalues",
    "spans_at": "spans",
}
"""Functions of a version that are tables, and which table each shows."""

STATE_COLUMNS = {
    "bodies_at": "body UBIGINT, voxels UBIGINT, supervoxels UBIGINT",
    "mapping_at": "supervoxel UBIGINT, body UBIGINT",
    "keyvalues_at": "key VARCHAR, value BLOB",
    "spans_at": "z INTEGER, y INTEGER, x0 INTEGER, x1 INTEGER",
}

_EVENTS = (
    "seq, time, action, version, instance, mutation_id, user, app, target, labels, voxels, facts"
)
_LABELS = "label, role, other, seq, mutation_offset, instance"


def statements(ask: Ask) -> list[str]:
    """Return the statements that make the views; `_tail_...` and `_state_...` are there already."""
    versions, instances = _texts(ask.versions), _texts(ask.instances)
    shown = f"""SELECT seq, time, action, nullif({instances}[instance + 1], '') AS instance,
        nullif({versions}[version + 1], '') AS version, mutation_id, "user", app, target, labels,
        voxels, facts FROM _events"""
    made = [
        _union("_events", _EVENTS, ask.folder, ask.events, ask.tail_from),
        _union("_labels", _LABELS, ask.folder, ask.labels, ask.tail_from),
        f"CREATE VIEW events AS {shown}",
        # On numbers: names would be made for every row, only to see that they are there.
        f"""CREATE VIEW mutations AS {shown}
            WHERE instance > 0 AND NOT starts_with(action, 'instance.')""",
        f"""CREATE VIEW labels AS SELECT label, role, other, seq, seq + mutation_offset AS
            mutation_id, nullif({instances}[instance + 1], '') AS instance FROM _labels""",
        f"""CREATE VIEW lineage AS
            SELECT l.label AS parent, e.target AS child, l.role AS kind, l.seq, e.mutation_id, e.time,
                nullif({versions}[e.version + 1], '') AS version,
                nullif({instances}[l.instance + 1], '') AS instance, e."user"
            FROM _labels l JOIN _events e USING (seq) WHERE l.role IN ('merged', 'renumbered')
            UNION ALL
            SELECT e.target, l.label, CASE l.role WHEN 'new' THEN 'cleaved' ELSE l.role END, l.seq,
                e.mutation_id, e.time, nullif({versions}[e.version + 1], ''),
                nullif({instances}[l.instance + 1], ''), e."user"
            FROM _labels l JOIN _events e USING (seq) WHERE l.role = 'new'
            UNION ALL
            SELECT l.other, l.label, l.role, l.seq, e.mutation_id, e.time,
                nullif({versions}[e.version + 1], ''), nullif({instances}[l.instance + 1], ''),
                e."user"
            FROM _labels l JOIN _events e USING (seq) WHERE l.role IN ('split', 'remain')""",
        _daily(ask),
        f"""CREATE VIEW users_daily AS SELECT "user", day,
            nullif({instances}[instance + 1], '') AS instance, action,
            CAST(sum(mutations) AS BIGINT) AS mutations, CAST(sum(labels) AS BIGINT) AS labels,
            CAST(sum(voxels) AS BIGINT) AS voxels
            FROM _daily GROUP BY "user", day, _daily.instance, action""",
    ]
    made += [
        f"""CREATE VIEW versions AS SELECT uuid, version AS number, branch,
            list_transform(parents, lambda p: {versions}[p + 1]) AS parents, parent_seq, note, locked,
            created, updated FROM _versions""",
        f"""CREATE VIEW instances AS SELECT name, type, uuid, instance AS number,
            {versions}[version + 1] AS version, deleted FROM _instances""",
    ]
    for name, columns in STATE_COLUMNS.items():
        made += _function(name, columns, ask)
    return made


def _union(view: str, columns: str, folder: str, files: Sequence[str], tail_from: int) -> str:
    tail = f"SELECT {columns} FROM _tail{view} WHERE seq >= {tail_from}"
    if not files:
        return f"CREATE VIEW {view} AS {tail}"
    paths = _texts([f"{folder}/{name}" for name in files])
    exported = f"SELECT {columns} FROM read_parquet({paths}, hive_partitioning=false)"
    return f"CREATE VIEW {view} AS {exported} UNION ALL {tail}"


def _daily(ask: Ask) -> str:
    """Return what makes the sums of days: those of exported files, and those of the tail."""
    tail = f"""SELECT CAST(time AS DATE) AS day, "user", instance, action, count(*) AS mutations,
        sum(labels) AS labels, sum(voxels) AS voxels FROM _tail_events
        WHERE seq >= {ask.tail_from} AND instance > 0 AND NOT starts_with(action, 'instance.')
        GROUP BY ALL"""
    if not ask.daily:
        return f"CREATE VIEW _daily AS {tail}"
    paths = _texts([f"{ask.folder}/{name}" for name in ask.daily])
    exported = f"SELECT * FROM read_parquet({paths}, hive_partitioning=false)"
    return f"CREATE VIEW _daily AS {exported} UNION ALL {tail}"


def _function(name: str, columns: str, ask: Ask) -> list[str]:
    """Return what makes a function of a version that is a table.

    The version is a text that stands in the query; each of them is a part of one table.
    """
    parts = []
    specs = list(ask.states.get(name, {}))
    for number, spec in enumerate(specs):
        for place in range(len(ask.states[name][spec])):
            parts.append(f"SELECT {number} AS _part, * FROM {state_name(name, number, place)}")
    empty = ", ".join(
        f"CAST(NULL AS {kind}) AS {column}"
        for column, kind in (("instance", "VARCHAR"), *(c.split() for c in columns.split(", ")))
    )
    parts.append(f"SELECT 0 AS _part, {empty} WHERE false")
    return [
        f"CREATE VIEW _{name} AS {' UNION ALL BY NAME '.join(parts)}",
        f"""CREATE MACRO {name}(v) AS TABLE SELECT * EXCLUDE (_part) FROM _{name}
            WHERE _part = list_position({_texts(specs)}, CAST(v AS VARCHAR)) - 1""",
    ]


def state_name(function: str, number: int, place: int) -> str:
    """Return the name of one table of an instance at one version."""
    return f"_state_{function}_{number}_{place}"


def _texts(values: Sequence[str]) -> str:
    """Return a list of texts in SQL."""
    if not values:
        return "CAST([] AS VARCHAR[])"
    quoted = ("'" + value.replace("'", "''") + "'" for value in values)
    return f"[{', '.join(quoted)}]"
