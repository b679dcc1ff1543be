"""The composition root: the one module that knows all the parts."""

from pathlib import Path

from sanic import Sanic

from dvid_es.clock import Clock, SystemClock
from dvid_es.datatypes import DATATYPES
from dvid_es.engine import Engine
from dvid_es.http.app import Server, make_app
from dvid_es.http.server import SERVER_ROUTES
from dvid_es.logs.filelog import FileLog
from dvid_es.logs.packs import FilePacks
from dvid_es.projections.fold import combined
from dvid_es.projections.projector import Projector
from dvid_es.projections.store import Store
from dvid_es.replay.catchup import catch_up
from dvid_es.repos.endpoints import COMMON_ROUTES, NODE_ROUTES, REPO_ROUTES, REPOS_ROUTES
from dvid_es.repos.fold import FOLDS as REPO_FOLDS
from dvid_es.settings import Settings
from dvid_es.streams import Stream, Streams


def open_stream(folder: Path, root: str) -> Stream:
    """Open (or make) the log and the packs of one repository."""
    return Stream(root, FileLog(folder / "log", root), FilePacks(folder / "packs"))


def make_projector() -> Projector:
    """Return the projector with the folds of all datatypes."""
    return Projector(combined([REPO_FOLDS, *(datatype.folds for datatype in DATATYPES)]))


def make_engine(settings: Settings, clock: Clock | None = None) -> Engine:
    """Open the data folder, bring its projections up to its logs, and take writes.

    Raises:
        CorruptLog: a log is damaged.
        CorruptStore: the projections are damaged, or ahead of a log.
    """
    clock = clock or SystemClock()
    store = Store(settings.data / "projections")
    streams = Streams(settings.data / "repos", open_stream)
    projector = make_projector()
    try:
        catch_up(store, streams.open_all(), projector)
    except BaseException:
        streams.close()
        store.close()
        raise
    decisions = {"allow_split": settings.allow_split}
    engine = Engine(
        store=store, streams=streams, projector=projector, clock=clock, decisions=decisions
    )
    engine.start()
    return engine


def make_server(settings: Settings, engine: Engine) -> Server:
    """Return the server of an engine: its tables of endpoints."""
    return Server(
        engine,
        settings,
        {datatype.name: datatype for datatype in DATATYPES},
        server_routes={**SERVER_ROUTES, **REPOS_ROUTES},
        repo_routes=REPO_ROUTES,
        node_routes=NODE_ROUTES,
        common_routes=COMMON_ROUTES,
    )


def make_application(settings: Settings, engine: Engine) -> Sanic:
    """Return the Sanic application that serves an engine."""
    return make_app(make_server(settings, engine))
