"""Records of mutations, as clients list them: JSON objects by instance, version and sequence.

Key: instance (u32), kind 16, version ordinal (u32), sequence of the event (u64), all big endian.
Value: MessagePack [user, app, time (ns since 1970), ordinal of the version shown, [facts of each record]].
The text is made when it is read: making it in the fold would cost a replay more than all else.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from dvid_es.codecs import gojson
from dvid_es.events import Record
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.txn import ReadTxn, WriteTxn
from dvid_es.versions import VersionGraph, View

MUTATIONS = 16
"""Kind of these rows."""

_decode = msgspec.msgpack.Decoder(tuple[str, str, int, int, list[dict[str, Any]]]).decode
_encode = msgspec.msgpack.Encoder().encode


def put(txn: WriteTxn, record: Record, facts: Sequence[Mapping[str, Any]], shown: int) -> None:
    """Keep the records of one event, in order.

    Args:
        txn: the state to change.
        record: the event.
        facts: what each record says besides UUID, time, user and client: plain values.
        shown: ordinal of the version whose UUID the records show.
    """
    header = record.header
    key = _prefix(header.instance, header.version) + record.offset.to_bytes(8, "big")
    txn.put(key, _encode((header.user, header.app, record.time_ns, shown, facts)))


def read(
    txn: ReadTxn, instance: int, versions: Iterable[int], view: View, user: str | None = None
) -> Iterator[str]:
    """Iterate over the records of `versions` in that order, the oldest of a version first.

    Args:
        txn: the state to read.
        instance: number of the instance.
        versions: ordinals.
        view: its bounds say up to which sequence a version is seen (`?at=`).
        user: only records of this user.
    """
    for version in versions:
        for _, texts in rows(txn, instance, version, view, user):
            yield from texts


def rows(
    txn: ReadTxn,
    instance: int,
    version: int,
    view: View,
    user: str | None = None,
    start: int = 0,
) -> Iterator[tuple[int, list[str]]]:
    """Iterate over the events of one version from the sequence `start` on: sequence and records.

    A record is JSON as DVID's clients know it, with user and client besides.

    Source: PutData and DeleteData in datatype/keyvalue/keyvalue.go (janelia-flyem/dvid).
    """
    prefix = _prefix(instance, version)
    bound = view.bounds.get(version, view.sequence)
    first = prefix + start.to_bytes(8, "big")
    stop = prefix + (min(bound, (1 << 64) - 2) + 1).to_bytes(8, "big")
    for key, value in txn.scan(first, stop):
        author, app, time_ns, shown, facts = _decode(value)
        if user is None or author == user:
            more = {"UUID": txn.repo.graph.by_id[shown].uuid, "Timestamp": stamp(time_ns)}
            if author:
                more["User"] = author
            if app:
                more["App"] = app
            texts = [gojson.dumps({**fact, **more}, sort_keys=True) for fact in facts]
            yield int.from_bytes(key[-8:], "big"), texts


def stamp(time_ns: int) -> str:
    """Return a time as Go prints it, always with a fraction: clients' patterns want one."""
    text = gojson.time_string(time_ns)
    return text if "." in text else text.replace(" +", ".0 +", 1)


def between(graph: VersionGraph, first: int, last: int) -> list[int]:
    """Return `last` and its line of first parents down to `first`, or to the root without it.

    Source: GetMutationRange in datastore (janelia-flyem/dvid): newest version first.
    """
    line = graph.first_parents(last)
    return line[: line.index(first) + 1] if first in line else line


def _prefix(instance: int, version: int) -> bytes:
    return instance_key(instance, MUTATIONS) + version.to_bytes(4, "big")
