"""Activity: one message for each request, for whoever watches a server.

Not durable: what cannot be sent soon is dropped.

Source: activity in storage/kafka.go and server/web.go (janelia-flyem/dvid).
"""

import json
import logging
import queue
import re
import socket
import threading
from collections.abc import Callable
from typing import NamedTuple

from dvid_es.errors import DvidError
from dvid_es.publishing.messages import Outgoing, clean_topic
from dvid_es.publishing.outbox import Sender

logger = logging.getLogger(__name__)

WAITING_MAX = 10_000
"""Messages that wait for a broker; later ones are dropped, and counted."""

SENT_AT_ONCE = 500

_TOKEN = re.compile(r"((?:^|[?&])admintoken=)[^&]*", re.IGNORECASE)


class Asked(NamedTuple):
    """One request and its answer."""

    time_ns: int
    """When it was answered."""

    duration_s: float
    status: int
    user: str
    client: str
    method: str
    uri: str
    """Path and query, as they came."""

    bytes_in: int
    """Of the body; -1 if the client did not say."""

    bytes_out: int
    """Of the body; 0 for one that was streamed."""

    remote_addr: str


def is_told(path: str) -> bool:
    """Say whether requests of a path are told of: /api/server/..., repo, node; not blobs and no pages."""
    parts = path.split("/", 6)
    if len(parts) < 4 or parts[1] != "api" or parts[2] not in ("server", "repo", "node"):
        return False
    return len(parts) < 6 or parts[5] != "blobstore"


def text_of(asked: Asked) -> bytes:
    """Return the JSON that DVID sends, but for the admin token, which is not shown."""
    fields = {
        "time": asked.time_ns // 1_000_000_000,
        "duration": round(asked.duration_s * 1000, 3),
        "status": asked.status,
        "user": asked.user,
        "client": asked.client,
        "method": asked.method,
        "uri": _TOKEN.sub(r"\1(not shown)", asked.uri),
        "bytes_in": asked.bytes_in,
        "bytes_out": asked.bytes_out,
        "remote_addr": asked.remote_addr,
    }
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


class Activity:
    """Sends messages in a thread of its own."""

    def __init__(self, connect: Callable[[], Sender], topic: str = "") -> None:
        """Send to `topic`, or to DVID's one of this host."""
        self.topic = clean_topic(topic or f"dvidactivity-{socket.gethostname()}")
        self.dropped = 0
        self._connect = connect
        self._waiting: queue.Queue[Asked | None] = queue.Queue(WAITING_MAX)
        self._thread = threading.Thread(target=self._run, name="activity", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def note(self, asked: Asked) -> None:
        """Tell of a request; never waits."""
        try:
            self._waiting.put_nowait(asked)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Send what waits, if a broker takes it, and stop."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def _run(self) -> None:
        sender: Sender | None = None
        going_on = True
        while going_on:
            some = [self._waiting.get()]
            while len(some) < SENT_AT_ONCE and not self._waiting.empty():
                some.append(self._waiting.get())
            going_on = None not in some
            messages = [
                Outgoing(self.topic, str(asked.time_ns).encode(), text_of(asked))
                for asked in some
                if asked is not None
            ]
            try:
                if messages:
                    sender = sender or self._connect()
                    sender.send(messages)
            except DvidError as problem:
                self.dropped += len(messages)
                logger.warning("%d messages of activity are lost: %s", len(messages), problem)
                if sender is not None:
                    sender.close()
                sender = None
        if sender is not None:
            sender.close()
