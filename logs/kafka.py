"""A log in a topic of Kafka: one partition, every append acknowledged by all replicas in sync.

Who opens a log takes it over: it writes a message of a higher epoch and reads up to it. What an earlier
writer adds behind that does not count (`kafka_fold.py`), and that writer notices at its next append,
because its message does not lie where it must. The same step settles an append whose outcome is unknown:
when the takeover is read, the append lies before it, or it never counts. A log that is opened while no
broker answers takes over as soon as one does. FORMAT.md describes every byte, decision 0011 says why
it is so.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path

from dvid_es.clock import SystemClock
from dvid_es.errors import CorruptLog, LogUnavailable, SettingsError, WritesHalted
from dvid_es.logs.base import Entry, Stored, check_entries
from dvid_es.logs.disk import DISK, Disk, failure, lock_folder, remove_unfinished
from dvid_es.logs.frames import encode_records
from dvid_es.logs.kafka_client import Cluster, Producer
from dvid_es.logs.kafka_fold import Fold, Position, beginning
from dvid_es.logs.kafka_message import encode_append, encode_takeover
from dvid_es.logs.kafka_places import INDEX_STEP_BYTES, Index, Marker, read_marker, write_marker
from dvid_es.logs.kafka_read import gone_back, read_events, read_on

logger = logging.getLogger(__name__)

TAIL_RECORDS = 20_000
TAIL_BYTES = 8 << 20
"""The last events are kept in memory: who follows the log asks for them again and again."""

_TAKEOVERS_MAX = 100
_PAUSE_MAX_S = 1.0


class KafkaLog:
    """A `Log` in a topic; the writer of that topic from when it is made until another takes over."""

    def __init__(
        self,
        folder: Path,
        stream_id: str,
        cluster: Cluster,
        topic: str,
        *,
        adopt: bool = False,
        defer: bool = False,
        unasked: bool = False,
        tail_records: int = TAIL_RECORDS,
        disk: Disk = DISK,
    ) -> None:
        """Open the stream whose marker is in `folder`, or start it in a new topic.

        Args:
            folder: of this stream alone; keeps the marker and the index.
            stream_id: name of the stream.
            cluster: the brokers.
            topic: name of a new topic; the marker says that of one that is there.
            adopt: without a marker, take a topic that holds events already.
            defer: if no broker answers, be in doubt as after an append without an answer, and go on
                trying. What is in the topic is not known until then: `end` may be too low, `read`
                and `append` raise LogUnavailable.
            unasked: defer without asking the brokers first: another log has found none.
            tail_records: how many of the last events stay in memory.
            disk: the operating system.

        Raises:
            CorruptLog: the topic is gone, shorter than it was, damaged, or another one.
            LogUnavailable: no broker answers; not with `defer`.
            SettingsError: the folder is in use, the topic is another's or would lose events.
            StorageFull: no space for marker or index.
            WritesHalted: another failure of the operating system.
        """
        self._disk, self._folder, self._stream_id = disk, Path(folder), stream_id
        self._cluster, self._topic, self._adopt = cluster, topic, adopt
        self._write_lock = threading.Lock()
        self._state_lock = threading.Lock()
        self._halted = self._doubt = ""
        self._then: list[Callable[[], None]] = []
        self._closing = threading.Event()
        self._recovery: threading.Thread | None = None
        self._producer: Producer | None = None
        self._index: Index | None = None
        self._tail: deque[Stored] = deque()
        self._tail_records, self._tail_bytes, self._since_place = tail_records, 0, 0
        self._nonce = bytes.fromhex(SystemClock().new_uuid())
        self._folder_lock = -1
        self._reached = False
        try:
            disk.make_folder(self._folder)
            self._folder_lock = lock_folder(disk, self._folder)
            self._open(defer, unasked)
        except OSError as error:
            self._release()
            raise failure(error, f"the log in {self._folder} cannot be opened") from error
        except BaseException:
            self._release()
            raise

    def _open(self, defer: bool, unasked: bool) -> None:
        remove_unfinished(self._disk, self._folder)
        marker = read_marker(self._folder)
        if marker is not None:
            self._topic = marker.topic
        self._index = Index(self._disk, self._folder, beginning(self._stream_id), writing=True)
        self._fold = Fold(self._topic, self._index.last)
        try:
            if unasked:
                raise LogUnavailable("no broker has answered yet")
            self._fold = self._reach()
        except LogUnavailable as problem:
            if not defer:
                raise
            self._lose_track(str(problem))
        else:
            self._reached = True
            self._remember(self._fold)

    def _reach(self) -> Fold:
        """Look what the topic holds, and take it over."""
        assert self._index is not None
        marker = read_marker(self._folder)
        self._find_topic(marker)
        first, last = self._cluster.ends(self._topic)
        if first:
            raise CorruptLog(
                f"topic {self._topic} begins at Kafka offset {first}: its first messages were removed."
                " Restore it from a copy or a mirror, and set retention.ms=-1"
            )
        if marker is not None and self._identity(last) != marker:
            raise CorruptLog(
                f"topic {self._topic} is not the one that held the events of {marker.stream}: it was"
                " made anew, or is another's. Restore it from a copy or a mirror"
            )
        fold = Fold(self._topic, self._index.last)
        if last < fold.kafka:
            raise gone_back(self._topic, last, fold.kafka)
        read_on(self._cluster, fold, last, self._index.add)
        if marker is None and fold.sequence and not self._adopt:
            raise SettingsError(
                f"topic {self._topic} holds {fold.sequence} events already: it belongs to another"
                " server's data; choose another [log] topicPrefix"
            )
        for _ in range(_TAKEOVERS_MAX):
            self._claim(fold, fold.epoch + 1)
            if fold.owner == self._nonce:
                break
            logger.warning("another server took over %s at the same time", self._topic)
        else:
            raise SettingsError(f"another server takes over {self._topic} again and again")
        if fold.stream_id != self._stream_id:
            raise SettingsError(f"topic {self._topic} belongs to the stream {fold.stream_id!r}")
        if marker is None:
            write_marker(self._disk, self._folder, self._identity(fold.kafka))
        return fold

    def _find_topic(self, marker: Marker | None) -> None:
        if self._topic not in self._cluster.topics():
            if marker is not None:
                raise CorruptLog(
                    f"topic {self._topic}, which holds the events of {marker.stream}, is gone. Restore"
                    " it from a copy or a mirror: it is never made anew"
                )
            self._cluster.create_topic(self._topic)
        self._cluster.check_topic(self._topic)

    def _identity(self, last: int) -> Marker:
        """Return what the marker of this stream must say: a topic is known by its first message."""
        for batch in self._cluster.read(self._topic, 0, min(1, last)):
            digest = blake2b(batch[0][1] or b"", digest_size=16).hexdigest()
            return Marker(self._stream_id, self._topic, digest)
        return Marker(self._stream_id, self._topic, "")

    def _claim(self, fold: Fold, epoch: int) -> None:
        """Write a takeover and read up to it; whether it counts is in `fold.owner`."""
        producer = self._cluster.producer()
        try:
            message = encode_takeover(self._stream_id, self._nonce, epoch)
            (offset,) = producer.send(self._topic, [message])
            if 0 <= offset < fold.kafka:
                raise gone_back(self._topic, offset, fold.kafka)
            read_on(self._cluster, fold, offset + 1)
        except BaseException:
            producer.close()
            raise
        if self._producer is not None:
            self._producer.close()
        self._producer = producer

    @property
    def stream_id(self) -> str:
        """The name of the stream."""
        return self._stream_id

    @property
    def topic(self) -> str:
        """The name of the topic."""
        return self._topic

    @property
    def end(self) -> int:
        """The offset that the next record will get, as far as it is known."""
        return self._fold.sequence

    def append(self, entries: Sequence[Entry]) -> int:
        """Add records, all or none, and wait until all replicas in sync have them; see `Log.append`."""
        check_entries(entries)
        with self._write_lock:
            self._check_usable()
            if not entries:
                return self.end
            fold, first = self._fold, self._fold.sequence
            frames, chain = encode_records(entries, first, fold.chain, first)
            messages = encode_append(
                frames, chain=fold.chain, epoch=fold.epoch, serial=fold.serial, sequence=first
            )
            assert self._producer is not None
            try:
                offsets = self._producer.send(self._topic, messages)
                done = Position(
                    offsets[-1] + 1, first + len(entries), chain, fold.epoch,
                    fold.serial + len(messages),
                )  # fmt: skip
                if offsets != list(range(fold.kafka, fold.kafka + len(messages))):
                    self._examine(offsets, done)
            except LogUnavailable as problem:
                self._lose_track(str(problem))
                raise
            self._keep(entries, first, done)
            return first

    def _examine(self, offsets: list[int], done: Position) -> None:
        """Look why an acknowledged append does not lie where it must; return if it counts."""
        if min(offsets) < 0:
            raise LogUnavailable(f"Kafka did not say where a message of {self._topic} is")
        if offsets[0] < self._fold.kafka:
            raise self._halt(str(gone_back(self._topic, offsets[0], self._fold.kafka)))
        before = self._fold.position
        assert before is not None
        fold = Fold(self._topic, before)
        try:
            read_on(self._cluster, fold, done.kafka)
        except CorruptLog as damage:
            raise self._halt(str(damage)) from damage
        if fold.position != done:
            raise self._halt(self._replaced(fold))
        logger.warning("passed over messages of %s: %s", self._topic, fold.passed)

    def _replaced(self, fold: Fold) -> str:
        return (
            f"another server has taken over topic {self._topic} (epoch {fold.epoch}, this one had"
            f" {self._fold.epoch}); stop one of the two and restart the other"
        )

    def _keep(self, entries: Sequence[Entry], first: int, done: Position) -> None:
        """Make what was appended visible."""
        size = 0
        with self._state_lock:
            for number, (kind, schema, time_ns, header, facts) in enumerate(entries, first):
                record = Stored(number, kind, schema, time_ns, bytes(header), bytes(facts))
                size += len(record.header) + len(record.facts)
                self._tail.append(record)
            self._tail_bytes += size
            while len(self._tail) > self._tail_records or self._tail_bytes > TAIL_BYTES:
                oldest = self._tail.popleft()
                self._tail_bytes -= len(oldest.header) + len(oldest.facts)
            self._fold.skip_to(done)
            assert self._index is not None
            self._since_place += size + 44 * len(entries)
            if self._since_place >= INDEX_STEP_BYTES:
                self._remember(self._fold)

    def _remember(self, fold: Fold) -> None:
        place = fold.position
        assert self._index is not None
        if place is not None:
            self._index.add(place)
        self._since_place = 0

    def sync(self) -> None:
        """Do nothing: an append returns when it is durable."""
        with self._write_lock:
            self._check_usable()

    def settle(self, then: Callable[[], None] | None = None) -> int:
        """Return `end` if it is known what became of every append; see `Log.settle`."""
        with self._write_lock:
            if self._doubt and not self._halted and then is not None:
                self._then.append(then)
            self._check_usable()
            return self.end

    def _check_usable(self) -> None:
        if self._halted:
            raise WritesHalted(f"topic {self._topic} takes no writes: {self._halted}")
        if self._doubt:
            raise LogUnavailable(self._doubt)

    def _halt(self, reason: str) -> WritesHalted:
        self._halted = reason
        return WritesHalted(f"topic {self._topic} takes no writes: {reason}")

    def _lose_track(self, reason: str) -> None:
        """Take no writes until it is known what became of the last one."""
        self._doubt = reason
        logger.error("writes to topic %s wait: %s", self._topic, reason)
        self._recovery = threading.Thread(target=self._recover, name="kafka-recovery", daemon=True)
        self._recovery.start()

    def _recover(self) -> None:
        pause = 0.0
        if self._producer is not None:
            self._producer.close()  # it would go on trying
            self._producer = None
        while not self._closing.wait(pause):
            pause = min(2 * pause + 0.05, _PAUSE_MAX_S)
            try:
                fold = self._resume() if self._reached else self._reach()
            except LogUnavailable as problem:
                logger.info("topic %s: %s", self._topic, problem)
                continue
            except Exception as problem:
                logger.exception("topic %s takes no more writes", self._topic)
                fold, self._halted = self._fold, str(problem) or repr(problem)
            with self._write_lock, self._state_lock:
                if fold.sequence != self._fold.sequence:
                    self._tail.clear()
                    self._tail_bytes = 0
                self._fold = fold
                self._doubt = ""
                if not self._reached and not self._halted:
                    self._reached = True
                    self._remember(fold)
                waiting, self._then = self._then, []
            if not self._halted:
                logger.warning("topic %s: writes go on at event %d", self._topic, fold.sequence)
            for then in waiting:
                then()
            return

    def _resume(self) -> Fold:
        """Find out what became of the last append, under an epoch of its own.

        Raises:
            WritesHalted: another server has taken over.
            CorruptLog: the topic is damaged or shorter than it was.
        """
        known = self._fold.position
        assert known is not None
        _, last = self._cluster.ends(self._topic)
        if last < known.kafka:
            raise gone_back(self._topic, last, known.kafka)
        fold, epoch = Fold(self._topic, known), known.epoch + 1
        fold.owner = self._nonce
        read_on(self._cluster, fold, last)
        if fold.owner != self._nonce:
            raise WritesHalted(self._replaced(fold))
        # Written again, though one of an attempt before may count: then this one is passed over.
        self._claim(fold, epoch)
        if fold.owner != self._nonce or fold.epoch != epoch:
            raise WritesHalted(self._replaced(fold))
        return fold

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Stored]:
        """Return the records `start` ... `stop`, verified; see `Log.read`.

        Raises:
            LogUnavailable: no broker answers, and the records are not among the last ones.
            CorruptLog: also if it could not be opened when a broker answered at last.
        """
        with self._state_lock:
            if not self._reached:
                raise CorruptLog(self._halted) if self._halted else LogUnavailable(self._doubt)
            end, kafka_end = self._fold.sequence, self._fold.kafka
            start, stop = max(start, 0), end if stop is None else min(stop, end)
            oldest = self._tail[0].offset if self._tail else end
            if start >= stop:
                return iter(())
            if start >= oldest:
                return iter(list(islice(self._tail, start - oldest, stop - oldest)))
            assert self._index is not None
            place = self._index.find(start)
        fold = Fold(self._topic, place)
        return read_events(self._cluster, fold, kafka_end, start, stop)

    def close(self) -> None:
        """Let go of the topic; nothing waits to be made durable."""
        self._closing.set()
        if self._recovery is not None:
            self._recovery.join()
        with self._write_lock:
            if self._index is not None and not self._halted and not self._doubt:
                self._remember(self._fold)
            self._halted = self._halted or "it is closed"
            self._release()

    def _release(self) -> None:
        """Close what is open."""
        producer, index, lock = self._producer, self._index, self._folder_lock
        self._producer, self._folder_lock = None, -1
        if producer is not None:
            producer.close()
        if index is not None:
            index.close()
        if lock >= 0:
            self._disk.close(lock)
