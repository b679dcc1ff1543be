"""The outbox: what is in the log and not yet on Kafka is sent, however long a broker was away.

Its place in each log is a small durable file. It moves when all replicas have the messages, so a crash or an
outage in between sends some again: at least once, in order, nothing dropped.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from dvid_es.errors import Damage, DvidError
from dvid_es.events import decode
from dvid_es.feed.cursors import Cursors
from dvid_es.projections.catalog import Repo
from dvid_es.projections.store import Store
from dvid_es.publishing.messages import Outgoing, Renderer
from dvid_es.streams import Stream, Streams

logger = logging.getLogger(__name__)

EVENTS_PER_TURN = 2000
BYTES_PER_TURN = 4 << 20
"""About so many bytes are sent at once, so that a slow connection gets on as well."""

AGAIN_SECONDS = 2.0
"""After a failure; a new try by itself, without an event."""

_NAME = "kafka"


class Sender(Protocol):
    """A connection that sends; see `logs.kafka_client.Publisher`."""

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Send messages in this order; return when all replicas have them.

        Raises:
            LogUnavailable: which of them are there is unknown.
        """

    def close(self) -> None:
        """Let go of the connection."""


class Outbox:
    """Sends the events of all repositories, in a thread of its own."""

    def __init__(
        self,
        store: Store,
        streams: Streams,
        renderer: Renderer,
        connect: Callable[[], Sender],
        places: Cursors,
    ) -> None:
        """Wire the parts; `connect` is called when there is something to send, and after failures."""
        self._store = store
        self._streams = streams
        self._renderer = renderer
        self._connect = connect
        self._places = places
        self._sender: Sender | None = None
        self._damaged: set[str] = set()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self.problem = ""
        """Why nothing is sent at the moment; "" if all is well."""
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def close(self) -> None:
        """Stop; what was not sent is sent after the next start."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def published(self, repos: list[Repo]) -> None:
        """Note that there are more events; from any thread."""
        del repos
        self._wake.set()

    def _run(self) -> None:
        try:
            while True:
                self._wake.clear()
                if (
                    self._stop.is_set()
                ):  # asked after clearing: a stop in between must not be slept through
                    break
                try:
                    for stream in self._streams.all():
                        self._send_all(stream)
                    self._wake.wait()
                except DvidError as problem:
                    self._give_up(problem)
                    self._stop.wait(AGAIN_SECONDS)
        except BaseException:
            self.problem = "the outbox has failed; the log of the server says more"
            logger.exception("the outbox failed: nothing more is sent before a restart")
        finally:
            self._disconnect()

    def _send_all(self, stream: Stream) -> None:
        """Send what there is of one repository; one that is damaged holds up no other."""
        try:
            while not self._stop.is_set() and stream.root not in self._damaged:
                if not self._turn(stream):
                    return
        except Damage:
            self._damaged.add(stream.root)
            logger.exception("nothing of repository %s is sent before a restart", stream.root)

    def _turn(self, stream: Stream) -> bool:
        """Send some events of one repository; say whether there were any."""
        repo = stream.repo
        start = self._places.all(stream.root).get(_NAME, -1) + 1
        if repo is None or start > repo.sequence:
            return False
        messages, last = self._rendered(stream, repo, start)
        assert last >= start, "what is visible is in the log"
        if self._sender is None:
            self._sender = self._connect()
        self._sender.send(messages)
        self._places.set(stream.root, _NAME, last)
        if self.problem:
            logger.warning("Kafka is back: sending goes on")
            self.problem = ""
        return True

    def _rendered(self, stream: Stream, repo: Repo, start: int) -> tuple[list[Outgoing], int]:
        """Return the messages of some events, and the sequence of the last of these."""
        stop = min(start + EVENTS_PER_TURN, repo.sequence + 1)
        messages: list[Outgoing] = []
        size, last = 0, start - 1
        txn = self._store.begin_read(repo, stream.packs)
        try:
            for stored in stream.log.read(start, stop):
                found = self._renderer.messages(decode(*stored), txn, repo)
                messages += found
                size += sum(len(one.value) for one in found)
                last = stored.offset
                if size >= BYTES_PER_TURN:
                    break
        finally:
            self._store.finish_read(txn)
        return messages, last

    def _give_up(self, problem: DvidError) -> None:
        if not self.problem:
            logger.error("nothing is sent to Kafka for now: %s", problem)
        self.problem = str(problem)
        self._disconnect()

    def _disconnect(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()
