"""One event as one JSON text: the attributes of a CloudEvent, the whole event, the labels it touches."""

import base64
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from dvid_es.analytics.touched import Describe
from dvid_es.codecs.gojson import rfc3339_nano
from dvid_es.events import BY_CLASS, Bulk, Event, Record
from dvid_es.ids import PackRef
from dvid_es.projections.catalog import Repo

LABELS_BYTES_MAX = 1 << 20
"""Of an event with longer bulk values than this, in all, the labels are not listed."""

Coords = NDArray[np.int32]
Fetch = Callable[[Bulk], bytes]


class Spans(NamedTuple):
    """Blocks of full resolution that an event writes, as spans along X."""

    spans: Bulk
    """int32[n, 4], little endian: z, y, first and last x."""


Place = Callable[[Any], tuple[Bulk, int] | Spans]
"""Returns the blocks that an event writes, int32[n, 3] ZYX little endian, and their scale; or spans."""


class Declared(NamedTuple):
    """What datatypes declare about their events."""

    touched: Mapping[type[Event], Describe]
    placed: Mapping[type[Event], Place]


class Message(NamedTuple):
    """One event, ready to be sent, and what filters ask of it."""

    sequence: int
    type: str
    instance: int
    """Number; 0 for an event about the repository."""

    user: str
    labels: frozenset[int] | None
    """Bodies and supervoxels that it touches; None if they are too many to list."""

    boxes: Coords | None
    """int32[n, 2, 3] XYZ: first voxel and the one behind the last of each block; None without."""

    text: bytes
    """JSON, without line breaks."""


def message_of(
    record: Record, repo: Repo, declared: Declared, fetch: Fetch, longest: int = 0
) -> Message:
    """Return what is sent of a record.

    Args:
        record: of the log.
        repo: documents of the repository, at least as new.
        declared: by the datatypes.
        fetch: returns the bytes of a bulk value.
        longest: if given, a longer text refers to the event, and does not hold it.
    """
    header, known = record.header, BY_CLASS[type(record.event)]
    labels = _labels(record.event, declared, fetch)
    version = repo.graph.by_id.get(header.version)
    instance = repo.instances.get(header.instance)
    message: dict[str, Any] = {
        "specversion": "1.0",
        "id": f"{repo.root}/{record.offset}",
        "source": f"/api/repo/{repo.root}",
        "type": known.name,
        "time": rfc3339_nano(record.time_ns),
        "datacontenttype": "application/json",
        "sequence": record.offset,
        "schema": known.schema,
    }
    if version is not None:
        message["version"] = version.uuid
    if instance is not None:
        message |= {"instance": instance.name, "datauuid": instance.data_uuid}
    if header.mutation_id:
        message["mutationid"] = header.mutation_id
    message |= {"user": header.user, "app": header.app}
    if labels:
        message["labels"] = labels
    message["data"] = {
        name: plain(getattr(record.event, name)) for name in record.event.__struct_fields__
    }
    text = msgspec.json.encode(message)
    if longest and len(text) > longest:
        short = {name: value for name, value in message.items() if name not in ("labels", "data")}
        place = f"from={record.offset}&to={record.offset}"
        text = msgspec.json.encode({**short, "dataref": f"/api/repo/{repo.root}/events?{place}"})
    listed = None if labels is None else frozenset(one for some in labels.values() for one in some)
    return Message(
        record.offset, known.name, header.instance, header.user, listed,
        _boxes(record, repo, declared, fetch), text,
    )  # fmt: skip


def plain(value: Any) -> Any:
    """Return a field of an event as JSON: bytes in base64, those in packs by reference."""
    if isinstance(value, PackRef):
        return {
            "pack": value.pack,
            "offset": value.offset,
            "bytes": value.length,
            "digest": value.digest.hex(),
        }
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    return value


def _labels(event: Event, declared: Declared, fetch: Fetch) -> dict[str, list[int]] | None:
    """Return the labels that an event touches, by what happened to them; None if they are too many."""
    describe = declared.touched.get(type(event))
    if describe is None:
        return {}
    if _bulk_bytes(event) > LABELS_BYTES_MAX:
        return None
    found = describe([event], fetch)
    labels: dict[str, list[int]] = {}
    for rows in found.rows:
        labels.setdefault(rows.role, []).extend(rows.labels.tolist())
    return labels


def _bulk_bytes(value: Any) -> int:
    if isinstance(value, PackRef):
        return value.length
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, tuple | list):
        return sum(map(_bulk_bytes, value))
    if isinstance(value, msgspec.Struct):
        # Voxels are not labels: only fields that name labels are read.
        fields = (name for name in value.__struct_fields__ if name not in ("blocks", "runs"))
        return sum(_bulk_bytes(getattr(value, name)) for name in fields)
    return 0


def _boxes(record: Record, repo: Repo, declared: Declared, fetch: Fetch) -> Coords | None:
    place = declared.placed.get(type(record.event))
    instance = repo.instances.get(record.header.instance)
    if place is None or instance is None:
        return None
    found, scale = place(record.event), 0
    if isinstance(found, Spans):
        z, y, x0, x1 = np.frombuffer(fetch(found.spans), "<i4").reshape(-1, 4).T.astype(np.int64)
        first, last = np.stack([x0, y, z], axis=1), np.stack([x1, y, z], axis=1)
    else:
        bulk, scale = found
        first = np.frombuffer(fetch(bulk), "<i4").reshape(-1, 3)[:, ::-1].astype(np.int64)
        last = first
    # Points are placed by types without blocks of their own: each is a block of one voxel.
    size = np.array(instance.settings.get("BlockSize", (1, 1, 1)), np.int64) << scale
    return np.stack([first * size, (last + 1) * size], axis=1).clip(-(1 << 31), (1 << 31) - 1)
