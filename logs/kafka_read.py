"""Reading the events of a topic, also beside the process that writes it."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from dvid_es.errors import CorruptLog, SettingsError
from dvid_es.logs.base import Finding, Stored
from dvid_es.logs.disk import DISK, Disk
from dvid_es.logs.kafka_client import Cluster
from dvid_es.logs.kafka_fold import DamagedTopic, Fetched, Fold, Position, beginning
from dvid_es.logs.kafka_places import Index, Marker, read_marker

_PIECE_BYTES = 512 << 10
_PIECE_MESSAGES = 500


def gone_back(topic: str, found: int, known: int) -> CorruptLog:
    """Return the error of a topic that holds less than it did."""
    return CorruptLog(
        f"topic {topic} has gone back: the next message gets Kafka offset {found}, but {known} were"
        " acknowledged. It was cut, or deleted and made anew: restore it from a copy or a mirror."
        " Nothing is reset"
    )


def read_on(
    cluster: Cluster, fold: Fold, stop: int, place: Callable[[Position], None] | None = None
) -> None:
    """Let `fold` go on up to Kafka's offset `stop`; `place` hears where reading may start later."""
    for batch in _pieces(cluster.read(fold.topic, fold.kafka, stop)):
        fold.take(batch)
        if place is not None and fold.position is not None:
            place(fold.position)
    fold.kafka = max(fold.kafka, stop)


def read_events(
    cluster: Cluster, fold: Fold, kafka_stop: int, start: int, stop: int
) -> Iterator[Stored]:
    """Return the events `start` ... `stop` (exclusive).

    Args:
        cluster: the brokers.
        fold: at a place before the first of them.
        kafka_stop: Kafka's offset behind the last of them.
        start: the first one wanted.
        stop: at most the number of events before `kafka_stop`.
    """
    for batch in _pieces(cluster.read(fold.topic, fold.kafka, kafka_stop)):
        events = fold.take(batch)
        if not events or fold.sequence <= start:
            continue
        first = events[0].offset
        yield from events[max(0, start - first) : max(0, stop - first)]
        if fold.sequence >= stop:
            return
    if fold.sequence < stop:
        raise DamagedTopic(fold.topic, kafka_stop, f"the topic ends before event {stop}")


def _pieces(batches: Iterable[list[Fetched]]) -> Iterator[list[Fetched]]:
    """Return messages a few at a time: what fits a processor's cache is read half as fast again."""
    for batch in batches:
        first = size = 0
        for last, (_, value) in enumerate(batch, 1):
            size += len(value or b"")
            if size >= _PIECE_BYTES or last - first >= _PIECE_MESSAGES:
                yield batch[first:last]
                first, size = last, 0
        if first < len(batch):
            yield batch[first:]


class KafkaReader:
    """A log on Kafka as it is when this is made; nothing is locked or changed."""

    def __init__(self, folder: Path, cluster: Cluster, disk: Disk = DISK) -> None:
        """Read what lies behind the last known place.

        Raises:
            CorruptLog: damage there, or the topic is shorter than it was.
            LogUnavailable: no broker answers.
            SettingsError: there is no log of Kafka in `folder`.
        """
        marker = read_marker(folder)
        if marker is None:
            raise SettingsError(f"{folder} says of no topic")
        self.stream_id, self.topic, self._cluster = marker.stream, marker.topic, cluster
        self._index = Index(disk, folder, beginning(marker.stream), writing=False)
        self.messages = _end_of(cluster, marker)
        fold = Fold(marker.topic, self._index.last)
        if self.messages < fold.kafka:
            raise gone_back(marker.topic, self.messages, fold.kafka)
        read_on(cluster, fold, self.messages)
        self.end = fold.sequence

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Stored]:
        """Return the records `start` ... `stop`, verified; see `Log.read`."""
        start, stop = max(start, 0), self.end if stop is None else min(stop, self.end)
        if start < stop:
            fold = Fold(self.topic, self._index.find(start))
            yield from read_events(self._cluster, fold, self.messages, start, stop)


def _end_of(cluster: Cluster, marker: Marker) -> int:
    if marker.topic not in cluster.topics():
        raise CorruptLog(
            f"topic {marker.topic}, which holds the events of {marker.stream}, is gone"
        )
    return cluster.ends(marker.topic)[1]


def verify_topic(folder: Path, cluster: Cluster) -> Iterator[Finding]:
    """Read every message of a topic and return what is wrong with it; nothing is changed.

    A message that dvid-es did not write is a finding, though every reader passes over it.
    """
    marker = read_marker(folder)
    if marker is None:
        raise SettingsError(f"{folder} says of no topic")
    fold = Fold(marker.topic, beginning(marker.stream))
    where = f"topic {marker.topic}"
    try:
        stop = _end_of(cluster, marker)
        for batch in cluster.read(marker.topic, 0, stop):
            fold.take(batch)
    except DamagedTopic as damage:
        yield Finding(where, damage.offset, damage.problem)
    except CorruptLog as damage:
        yield Finding(where, fold.kafka, str(damage))
    yield from (Finding(where, offset, why) for offset, why in fold.passed if "dvid-es" in why)
