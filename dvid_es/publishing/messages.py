"""Which messages an event becomes: DVID's own on DVID's topics, and the whole event on ours."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from dvid_es.codecs import gojson
from dvid_es.codecs.fnv import fnv1_128
from dvid_es.events import Event, Record
from dvid_es.feed.messages import Declared, Fetch, message_of
from dvid_es.projections import blobs
from dvid_es.projections.catalog import Repo
from dvid_es.projections.txn import ReadTxn, WriteTxn

Classic = Callable[[Record, ReadTxn], Iterable[str]]
"""Returns the JSON texts that DVID sends for an event. Reads the state after it; pure."""

MESSAGE_BYTES_MAX = 980 * 1024
"""DVID's limit; Kafka's own, if nobody has changed it, is a little higher."""

Overheard = Callable[[Record, ReadTxn], Iterable[tuple[int, str]]]
"""Returns what DVID sends about other instances that listen to that of an event: their numbers and the
JSON texts. Asked for every event."""

_NO_TOPIC = re.compile(r"[^A-Za-z0-9._\\-]")


def clean_topic(name: str) -> str:
    """Return a name that Kafka takes. Source: the topics of storage/kafka.go (janelia-flyem/dvid)."""
    return _NO_TOPIC.sub("-", name)


def long_reference(text: str) -> str:
    """Return the name of the blob that a text is if it is too long for a message; else nothing.

    Source: the DataRef of cleaves in datatype/labelmap/mutate.go (janelia-flyem/dvid).
    """
    data = text.encode()
    return blobs.reference_of(fnv1_128(data)) if len(data) > MESSAGE_BYTES_MAX else ""


def keep_long(txn: WriteTxn, texts: Iterable[str]) -> str:
    """Keep those texts as blobs that are too long for a message; return the name of the last one.

    For folds of events that can become such messages: what is sent instead refers to the blob.
    """
    reference = ""
    for text in texts:
        if long_reference(text):
            reference = blobs.put(txn, text.encode())
    return reference


def fitting(text: str) -> str:
    """Return a JSON text, of a long one its short form: without its longest field, and with a DataRef."""
    reference = long_reference(text)
    if not reference:
        return text
    fields = msgspec.json.decode(text)
    del fields[max(fields, key=lambda name: len(msgspec.json.encode(fields[name])))]
    return gojson.dumps({**fields, "DataRef": reference}, sort_keys=True)


class Classics(NamedTuple):
    """What DVID sends, by kind of event."""

    of_repos: Mapping[type[Event], Classic]
    """On the topic of the repository."""

    of_instances: Mapping[type[Event], Classic]
    """On the topic of the instance."""

    of_listeners: tuple[Overheard, ...] = ()
    """On the topics of other instances."""


class Topics(NamedTuple):
    """How topics are named, as the settings say."""

    prefix: str
    suffixes: Mapping[str, str]
    """By UUID of a data instance."""

    def of_repo(self, root: str) -> str:
        """Return the topic of DVID for what happens to a repository."""
        return clean_topic(f"{self.prefix}dvidrepo-{root}-repo-ops")

    def of_instance(self, root: str, data_uuid: str) -> str:
        """Return the topic of DVID for the mutations of a data instance."""
        suffix = self.suffixes.get(data_uuid, "")
        name = f"{self.prefix}dvidrepo-{root}-data-{data_uuid}"
        return clean_topic(f"{name}-{suffix}" if suffix else name)

    def of_events(self, root: str) -> str:
        """Return the topic of whole events."""
        return clean_topic(f"{self.prefix}dvid_es-{root}-events")


class Outgoing(NamedTuple):
    """One message for Kafka."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Renderer(NamedTuple):
    """Makes messages of events."""

    topics: Topics
    classics: Classics
    declared: Declared

    def messages(self, record: Record, txn: ReadTxn, repo: Repo) -> list[Outgoing]:
        """Return all messages of an event, in the order in which they are sent.

        Args:
            record: of the log.
            txn: a state that holds the event.
            repo: documents of that state.
        """
        kind, key = type(record.event), str(record.time_ns).encode()
        found: list[Outgoing] = []
        if (classic := self.classics.of_repos.get(kind)) is not None:
            topic = self.topics.of_repo(repo.root)
            found += [Outgoing(topic, key, fitting(text).encode()) for text in classic(record, txn)]
        instance = repo.instances.get(record.header.instance)
        classic = self.classics.of_instances.get(kind)
        if instance is not None and classic is not None:
            topic = self.topics.of_instance(repo.root, instance.data_uuid)
            found += [Outgoing(topic, key, fitting(text).encode()) for text in classic(record, txn)]
        for overheard in self.classics.of_listeners:
            for number, text in overheard(record, txn):
                topic = self.topics.of_instance(repo.root, repo.instances[number].data_uuid)
                found.append(Outgoing(topic, key, fitting(text).encode()))
        found.append(self._whole(record, repo, txn.bulk))
        return found

    def _whole(self, record: Record, repo: Repo, fetch: Fetch) -> Outgoing:
        message = message_of(record, repo, self.declared, fetch, MESSAGE_BYTES_MAX)
        attributes: dict[str, Any] = {
            "ce_specversion": "1.0",
            "ce_id": f"{repo.root}/{message.sequence}",
            "ce_source": f"/api/repo/{repo.root}",
            "ce_type": message.type,
            "ce_sequence": message.sequence,
            "content-type": "application/cloudevents+json",
        }
        headers = tuple((name, str(value).encode()) for name, value in attributes.items())
        topic = self.topics.of_events(repo.root)
        return Outgoing(topic, str(message.sequence).encode(), message.text, headers)
