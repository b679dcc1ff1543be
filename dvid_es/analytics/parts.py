"""The files of an export and the manifest that lists them.

Only what the manifest lists counts; it is replaced at once, when all files that it names are durable.
So whatever moment an export ends at, what is there is whole, and the next one goes on from it.
"""

import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dvid_es.analytics.columns import Columns, daily
from dvid_es.errors import CorruptStore
from dvid_es.logs.base import Stored
from dvid_es.logs.disk import NEW_SUFFIX, Disk, create

FORMAT = 1
MANIFEST = "manifest.json"
TABLES = ("events", "labels", "daily")
ROW_GROUP = 131_072

_SMALL = ["action", "version", "instance", "user", "app", "labels", "role", "mutation_offset"]
_RISING = ("seq", "time", "mutation_id", "target", "voxels", "label", "other")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the events, one behind the other."""

    start: int
    """Sequence of the first."""

    stop: int
    """Behind the last."""

    digest: str
    """Of the last record: whether the log still holds what was exported."""

    events: tuple[str, ...]
    """Files, from the folder of the repository."""

    labels: tuple[str, ...]
    daily: tuple[str, ...]
    """What users did on each day, summed."""

    bytes: int
    """Of all of them."""

    @property
    def files(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.events, *self.labels, *self.daily)

    @property
    def count(self) -> int:
        """How many events they are."""
        return self.stop - self.start


class State(msgspec.Struct, frozen=True, kw_only=True):
    """A table of an instance at a version, as it was asked for."""

    table: str
    instance: str
    version: str
    """UUID."""

    seq: int
    """Last sequence that it shows."""

    rows: int
    file: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What an export says of itself."""

    format: int = FORMAT
    root: str
    parts: tuple[Part, ...] = ()
    versions: str = ""
    """The file of the versions."""

    instances: str = ""
    """The file of the instances."""

    states: tuple[State, ...] = ()
    retired: tuple[str, ...] = ()
    """Files that were replaced; they stay until the next export, for whoever is reading them."""

    @property
    def upto(self) -> int:
        """Sequence of the first event that is not exported."""
        return self.parts[-1].stop if self.parts else 0

    def listed(self) -> set[str]:
        """Return all files that are used."""
        found = {name for part in self.parts for name in part.files}
        found.update(state.file for state in self.states)
        return found | {name for name in (self.versions, self.instances) if name}


def digest_of(stored: Stored) -> str:
    """Return what a record is recognised by."""
    offset, kind, schema, time_ns, header, facts = stored
    state = blake2b(b"%d %d %d %d %d " % (offset, kind, schema, time_ns, len(header)))
    state.update(header)
    state.update(facts)
    return state.hexdigest()[:32]


def read_manifest(folder: Path, root: str) -> Manifest:
    """Return the manifest of a repository's export; an empty one if there is none.

    Raises:
        CorruptStore: it cannot be read, or is of another repository.
    """
    path = folder / MANIFEST
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return Manifest(root=root)
    except (OSError, msgspec.MsgspecError) as problem:
        raise CorruptStore(
            f"{path} cannot be read: {problem}. Remove the folder and export again"
        ) from problem
    if found.format != FORMAT or found.root != root:
        raise CorruptStore(
            f"{path} is of format {found.format} and repository {found.root}, not of format {FORMAT}"
            f" and {root}: remove the folder and export again"
        )
    return found


def write_manifest(disk: Disk, folder: Path, manifest: Manifest) -> None:
    """Replace the manifest; all files that it names must be durable."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    disk.close(create(disk, folder / MANIFEST, [text]))


def sorted_labels(labels: pa.Table) -> pa.Table:
    """Return rows of labels by instance, label and sequence; roles are a dictionary."""
    # Rows are moved as numbers: texts would cost more than all else.
    role = labels.schema.get_field_index("role")
    labels = labels.set_column(role, "role", labels["role"].combine_chunks().dictionary_encode())
    instances, label, seq = (labels[name].to_numpy() for name in ("instance", "label", "seq"))
    keys = [seq, label]
    if len(instances) and (instances != instances[0]).any():
        keys.append(instances)
    if (seq[1:] >= seq[:-1]).all():
        keys = keys[1:]
    order = np.lexsort(keys) if len(keys) > 1 else np.argsort(label, kind="stable")
    return labels.take(pa.array(order))


class PartWriter:
    """Writes files that appear under their names whole and durable, and collects the names."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        """Write below `folder`."""
        self._disk = disk
        self._folder = folder

    def part(self, columns: Columns, start: int, stop: int, digest: str) -> Part:
        """Write the events `start` ... `stop`, a file for each year and table, and return the part."""
        names: dict[str, list[str]] = {table: [] for table in TABLES}
        size = 0
        years = pc.year(columns.events["time"]).to_numpy()
        first = columns.events["seq"].to_numpy()
        of_label = years[columns.labels["seq"].to_numpy() - (first[0] if len(first) else 0)]
        for year in np.unique(years).tolist():
            for table, rows, mine in (
                ("events", columns.events, years == year),
                ("labels", columns.labels, of_label == year),
                ("daily", columns.events, years == year),
            ):
                chosen = rows if mine.all() else rows.filter(pa.array(mine))
                if table == "labels":
                    chosen = sorted_labels(chosen)
                elif table == "daily":
                    chosen = daily(chosen)
                if not chosen.num_rows:
                    continue
                name = f"{table}/year={year}/{start:012d}-{stop:012d}.parquet"
                size += self.table(chosen, name)
                names[table].append(name)
        return Part(
            start=start, stop=stop, digest=digest, bytes=size,
            events=tuple(names["events"]), labels=tuple(names["labels"]),
            daily=tuple(names["daily"]),
        )  # fmt: skip

    def table(self, table: pa.Table, name: str) -> int:
        """Write one file; return its length."""
        with self.open(table.schema, name) as writer:
            writer.write(table)
        return writer.bytes

    def open(self, schema: pa.Schema, name: str) -> "TableFile":
        """Begin a file that is written piece by piece."""
        return TableFile(self._disk, self._folder / name, schema)


class TableFile:
    """A Parquet file that is being written; it gets its name at the end of the block."""

    def __init__(self, disk: Disk, path: Path, schema: pa.Schema) -> None:
        """Begin under a name that means nothing."""
        disk.make_folder(path.parent)
        self._disk, self._path = disk, path
        self._new = path.with_name(path.name + NEW_SUFFIX)
        names = set(schema.names)
        sort = ("instance", "label", "seq") if "label" in names else ("seq",)
        self._writer = pq.ParquetWriter(
            self._new,
            schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=[name for name in _SMALL if name in names],
            column_encoding={name: "DELTA_BINARY_PACKED" for name in _RISING if name in names},
            sorting_columns=[pq.SortingColumn(schema.get_field_index(name)) for name in sort]
            if "seq" in names
            else None,
        )
        self.bytes = 0
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        self._writer.write_table(table, row_group_size=ROW_GROUP)
        self.rows += table.num_rows

    def __enter__(self) -> "TableFile":
        """Return itself."""
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        """Make the file durable under its name; after an error nothing of it is left."""
        self._writer.close()
        if kind is not None:
            self._new.unlink(missing_ok=True)
            return
        fd = self._disk.open(self._new, os.O_RDONLY)
        try:
            self._disk.sync_data(fd)
            self.bytes = self._disk.size(fd)
        finally:
            self._disk.close(fd)
        self._disk.rename(self._new, self._path)
        self._disk.sync_folder(self._path.parent)
