"""The composition root: the one module that knows all the parts."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sanic import Sanic

from dvid_es.analytics.service import Analytics, Limits
from dvid_es.analytics.touched import Described
from dvid_es.clock import Clock, SystemClock
from dvid_es.datatypes import DATATYPES
from dvid_es.engine import Engine
from dvid_es.errors import InvalidRequest, SettingsError
from dvid_es.feed.cursors import Cursors
from dvid_es.feed.messages import Declared
from dvid_es.http.app import Server, make_app
from dvid_es.http.jobs import JOB_ROUTES
from dvid_es.http.server import SERVER_ROUTES
from dvid_es.logs.base import Log
from dvid_es.logs.disk import DISK, lock_folder
from dvid_es.logs.filelog import FileLog
from dvid_es.logs.kafka_places import read_marker
from dvid_es.logs.move import Moved, move, settle_move
from dvid_es.logs.packs import FilePacks
from dvid_es.logs.reader import LogReader
from dvid_es.logs.segment import list_segments
from dvid_es.projections.fold import combined
from dvid_es.projections.projector import Projector
from dvid_es.publishing.activity import Activity
from dvid_es.publishing.messages import Classics, Renderer, Topics
from dvid_es.publishing.outbox import Outbox
from dvid_es.replay.catchup import Progress, Setbacks, catch_up, is_known
from dvid_es.replay.digest import Kind, unchanged
from dvid_es.replay.opening import open_store
from dvid_es.replay.places import Places, mark_clean
from dvid_es.repos.endpoints import COMMON_ROUTES, NODE_ROUTES, REPO_ROUTES, REPOS_ROUTES
from dvid_es.repos.endpoints_events import EVENT_ROUTES
from dvid_es.repos.fold import FOLDS as REPO_FOLDS
from dvid_es.repos.published import PUBLISHED as REPOS_PUBLISHED
from dvid_es.settings import Settings
from dvid_es.streams import Stream, Streams

if TYPE_CHECKING:
    from dvid_es.analytics.export import Readable
    from dvid_es.logs.kafka_client import Cluster

SEGMENT_BYTES = 32 << 20
"""Opening a log reads its last segment: a quarter of a million small events take a third of a second."""


class StreamOpener:
    """Opens the log and the packs of repositories, wherever their events are."""

    def __init__(self, settings: Settings) -> None:
        """Remember where new logs go; no broker is asked before a log is there."""
        self._settings = settings
        self._cluster: Cluster | None = None
        self.defers = False
        """Whether logs are opened without their brokers, if these do not answer."""
        self._away = False

    def __call__(self, folder: Path, root: str) -> Stream:
        """Open, or make, the stream of one repository."""
        settle_move(folder)
        if on_kafka(folder / "log", self._settings.log_backend):
            adopt = (folder / "packs").is_dir()  # restored without its log folder
            log = self.kafka_log(folder / "log", root, self._topic(root), adopt)
        else:
            log = file_log(folder / "log", root)
        return Stream(root, log, FilePacks(folder / "packs"))

    def _topic(self, root: str) -> str:
        return self._settings.log_topic_prefix + root

    def kafka_log(self, folder: Path, root: str, topic: str, adopt: bool = False) -> Log:
        """Open, or make, a log on Kafka; a topic that is there is named by the marker in `folder`."""
        from dvid_es.logs.kafka import KafkaLog

        unasked = self.defers and self._away
        cluster, defer = self.cluster(), self.defers
        log = KafkaLog(folder, root, cluster, topic, adopt=adopt, defer=defer, unasked=unasked)
        self._away = self.defers and not is_known(log)
        return log

    def new_topic(self, root: str) -> str:
        """Return the name of a topic that is not there: an earlier one is never written again."""
        taken, topic, number = set(self.cluster().topics()), self._topic(root), 1
        while topic in taken:
            number += 1
            topic = f"{self._topic(root)}-{number}"
        return topic

    def cluster(self) -> "Cluster":
        """Return the brokers that the settings name; asked for the first time, connect.

        Raises:
            SettingsError: the settings name none, or the package for it is not installed.
        """
        if self._cluster is None:
            self._cluster = make_cluster(self._settings)
        return self._cluster

    def close(self) -> None:
        """Let go of the brokers; all streams are closed."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.close()


def file_log(folder: Path, root: str) -> Log:
    """Open, or make, a log in files."""
    return FileLog(folder, root, segment_bytes=SEGMENT_BYTES)


def make_cluster(settings: Settings) -> "Cluster":
    """Return a connection to the brokers of the settings.

    Raises:
        SettingsError: they name none, or the package for it is not installed.
    """
    if not settings.kafka_servers:
        raise SettingsError(
            'the log is on Kafka: name the brokers, [kafka] servers = ["host:9092"]'
        )
    try:
        from dvid_es.logs.kafka_client import Cluster, Connection
    except ImportError:
        raise SettingsError("Kafka needs a package: pip install 'dvid_es[kafka]'") from None
    files = (settings.kafka_ca_file, settings.kafka_cert_file, settings.kafka_key_file)
    ca_file, cert_file, key_file = (str(path) if path else "" for path in files)
    return Cluster(
        Connection(
            servers=settings.kafka_servers,
            security_protocol=settings.kafka_security,
            sasl_mechanism=settings.kafka_sasl_mechanism,
            sasl_username=settings.kafka_sasl_username,
            sasl_password=settings.kafka_sasl_password,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
            timeout_s=settings.log_timeout_seconds,
        )
    )


def move_log(settings: Settings, folder: Path, target: str, progress: Progress) -> Moved:
    """Carry the events of a repository to another backend; nobody may use the data folder.

    Args:
        settings: of the data folder.
        folder: of the repository.
        target: `kafka` or `filelog`.
        progress: hears of what is copied.

    Raises:
        InvalidRequest: they are there already.
        SettingsError: another process has the data folder, or no brokers are named.
        CorruptLog: the log is damaged; nothing is changed.
        LogUnavailable: no broker answers; nothing is changed.
    """
    opener = StreamOpener(settings)
    lock = lock_folder(DISK, settings.data)
    try:
        settle_move(folder)
        if on_kafka(folder / "log", "filelog") == (target == "kafka"):
            raise InvalidRequest(f"the events of {folder.name} are on {target} already")
        root = folder.name
        topic = opener.new_topic(root) if target == "kafka" else ""

        def on_brokers(place: Path) -> Log:
            return opener.kafka_log(place, root, topic)

        def in_files(place: Path) -> Log:
            return file_log(place, root)

        if target == "kafka":
            return move(folder, in_files, on_brokers, progress)
        return move(folder, on_brokers, in_files, progress)
    finally:
        DISK.close(lock)
        opener.close()


def on_kafka(folder: Path, backend: str) -> bool:
    """Say whether the events of a log's folder are on Kafka, or a new log of it will be."""
    if read_marker(folder) is not None:
        return True
    return backend == "kafka" and not (folder.is_dir() and list_segments(folder))


def make_projector() -> Projector:
    """Return the projector with the folds of all datatypes."""
    return Projector(combined([REPO_FOLDS, *(datatype.folds for datatype in DATATYPES)]))


def make_engine(
    settings: Settings, clock: Clock | None = None, progress: Progress | None = None
) -> Engine:
    """Open the data folder, bring its projections up to its logs, and take writes.

    Args:
        settings: among them the data folder.
        clock: the machine's if None.
        progress: hears of events that are applied before the server can answer.

    Raises:
        CorruptLog: a log is damaged.
        CorruptStore: the projections are ahead of a log.
        SettingsError: another server has the data folder.
    """
    opened = OpenedData(settings, serving=True)
    setbacks = Setbacks()
    try:
        store = open_store(opened.places, opened.ends)
    except BaseException:
        opened.close()
        raise
    try:
        catch_up(store, opened.streams.all(), opened.projector, progress, setbacks=setbacks)
    except BaseException:
        store.close()
        opened.close()
        raise

    def closed(clean: bool) -> None:
        try:
            if clean:
                mark_clean(opened.places)
        finally:
            opened.close()

    engine = Engine(
        store=store,
        streams=opened.streams,
        projector=opened.projector,
        clock=clock or SystemClock(),
        decisions={"allow_split": settings.allow_split},
        closed=closed,
        jobs_at_once=settings.jobs_at_once,
        analytics=make_analytics(settings),
    )
    for root, reason in setbacks.failed.items():
        engine.writer.halt(root, reason)
    for root, records in setbacks.postponed.items():
        engine.writer.postpone(opened.streams.get(root), records)
    for root in setbacks.awaited:
        engine.writer.expect(opened.streams.get(root))
    if settings.kafka_servers:
        _publish(settings, engine)
    engine.start()
    return engine


def _publish(settings: Settings, engine: Engine) -> None:
    """Send what happens to Kafka, from where the last run has stopped."""
    cluster = make_cluster(settings)
    classics = Classics(
        REPOS_PUBLISHED,
        {kind: classic for found in DATATYPES for kind, classic in found.published.items()},
        tuple(found.overheard for found in DATATYPES if found.overheard is not None),
    )
    topics = Topics(settings.kafka_topic_prefix, dict(settings.kafka_topic_suffixes))
    outbox = Outbox(
        engine.store, engine.streams, Renderer(topics, classics, declared()),
        cluster.publisher, Cursors(settings.data / "outbox"),
    )  # fmt: skip
    engine.listeners.append(outbox.published)
    engine.at_close += [outbox.close, cluster.close]
    outbox.start()
    engine.activity = Activity(cluster.publisher, settings.kafka_activity_topic)
    engine.at_close.insert(0, engine.activity.close)
    engine.activity.start()


@contextmanager
def open_reader(settings: Settings, folder: Path) -> "Iterator[Readable]":
    """Open the log of one repository for reading, wherever it is and beside whoever writes it."""
    if read_marker(folder) is None:
        yield LogReader(folder)
        return
    from dvid_es.logs.kafka_read import KafkaReader

    cluster = make_cluster(settings)
    try:
        yield KafkaReader(folder, cluster)
    finally:
        cluster.close()


def make_analytics(settings: Settings, scratch: Path | None = None) -> Analytics:
    """Return what answers queries over history; it starts nothing before the first one.

    With `scratch`, a folder that is its own, it is no part of a server and starts no exports.
    """
    config = [] if settings.config_path is None else ["--config", str(settings.config_path)]
    command = [sys.executable, "-m", "dvid_es", "export", "parquet", "--data", str(settings.data)]
    places = Places(settings.data)
    return Analytics(
        places.analytics,
        described(),
        Limits(
            seconds=settings.sql_seconds,
            memory_bytes=settings.sql_memory_megabytes << 20,
            threads=settings.sql_threads,
            result_bytes=settings.sql_result_megabytes << 20,
            at_once=settings.sql_at_once,
            tail_events=settings.sql_tail_events,
        ),
        scratch or places.analytics / "serving",
        None if scratch else lambda root: [*command, *config, "--repo", root],
    )


def described() -> Described:
    """Return what the datatypes declare for analytics."""
    return Described(
        {kind: describe for found in DATATYPES for kind, describe in found.touched.items()},
        {found.name: found.tables for found in DATATYPES},
    )


def declared() -> Declared:
    """Return what the datatypes declare about their events, for those who follow them."""
    return Declared(
        described().events,
        {kind: place for found in DATATYPES for kind, place in found.placed.items()},
    )


class OpenedData:
    """A data folder claimed by this process, its logs and packs open: what rebuilding needs."""

    def __init__(self, settings: Settings, serving: bool = False) -> None:
        """Claim the folder, made if need be, and open all logs.

        With `serving`, logs are opened whether their brokers answer or not.

        Raises:
            CorruptLog: a log is damaged.
            SettingsError: another process has the folder.
        """
        self.places = Places(settings.data)
        self.projector = make_projector()
        self._opener = StreamOpener(settings)
        self.streams = Streams(self.places.repos, self._opener)
        DISK.make_folder(settings.data)
        self._lock = lock_folder(DISK, settings.data)
        try:
            self._opener.defers = serving
            self.streams.open_all()
            self._opener.defers = False
        except BaseException:
            self.close()
            raise

    @property
    def ends(self) -> dict[str, int]:
        """By root UUID, how many events each log holds; more than any can have where that is unknown."""
        return {
            stream.root: stream.log.end if is_known(stream.log) else 1 << 63
            for stream in self.streams.all()
        }

    def close(self) -> None:
        """Close the logs and let go of the folder."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            try:
                self.streams.close()
            finally:
                self._opener.close()
                DISK.close(lock)


def row_kinds() -> dict[int, Kind]:
    """Return all kinds of rows, for digests."""
    return {
        number: Kind(name, found.contents.get(number, unchanged))
        for found in DATATYPES
        for number, name in found.projections.items()
    }


def make_server(settings: Settings, engine: Engine) -> Server:
    """Return the server of an engine: its tables of endpoints."""
    return Server(
        engine,
        settings,
        {datatype.name: datatype for datatype in DATATYPES},
        server_routes={**SERVER_ROUTES, **JOB_ROUTES, **EVENT_ROUTES, **REPOS_ROUTES},
        repo_routes=REPO_ROUTES,
        node_routes=NODE_ROUTES,
        common_routes=COMMON_ROUTES,
        declared=declared(),
    )


def make_application(settings: Settings, engine: Engine) -> Sanic:
    """Return the Sanic application that serves an engine."""
    return make_app(make_server(settings, engine))
