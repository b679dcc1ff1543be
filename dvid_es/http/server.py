"""What the server says of itself: /api/server/*, health, load, help, and the page at /.

Source: server/web.go and server/server_local.go (janelia-flyem/dvid). The docstring of a handler is
what /api/help shows of its endpoint.
"""

import asyncio
import os
import platform
import resource
import threading
from typing import Any

from sanic.response import HTTPResponse

from dvid_es import __version__
from dvid_es.codecs import gojson
from dvid_es.errors import InvalidRequest
from dvid_es.http.blocklist import load as load_block_list
from dvid_es.http.datatype import Handler
from dvid_es.http.help import datatype_help, landing_page, raml, server_help
from dvid_es.http.monitor import Latency
from dvid_es.http.node import JSON, NodeRequest, empty, json_response
from dvid_es.http.storage import storage_summary
from dvid_es.http.wire import parse_json_object, parse_signed
from dvid_es.settings import Settings

PLAIN = "text/plain"
HTML = "text/html"

DVID_VERSION = f"v1.0.0-1-gdvides{__version__.replace('.', 'x')}"
"""Clients split this at `.` and `-` and want numbers in the first four places."""

DATASTORE_VERSION = "0.11.0"
"""Of the DVID whose answers these are."""

NO_KINDS = {"Bytes": 0, "Items": 0, "Gets": 0, "Hits": 0, "Evictions": 0}


def get_heartbeat(request: NodeRequest) -> HTTPResponse:
    """GET api/heartbeat: OK, as long as the process answers. With u= a sign of life of that user."""
    del request
    return HTTPResponse("OK", 200, content_type=PLAIN)


def get_user_latencies(request: NodeRequest) -> HTTPResponse:
    """GET api/user-latencies: when users gave signs of life, by name; with u= of that user alone."""
    users = request.server.monitor.users
    user = request.args.get("u")
    if user is not None:
        return json_response(_latency(user if user in users else "", users.get(user, Latency())))
    return json_response({name: _latency(name, known) for name, known in sorted(users.items())})


def _latency(user: str, known: Latency) -> dict[str, Any]:
    return {
        "User": user,
        "LastPing": gojson.rfc3339(known.last_ping_ns) if known.last_ping_ns else "",
        "LastLatency": known.last_ms,
        "MinLatency": known.least_ms,
        "MaxLatency": known.most_ms,
    }


def get_load(request: NodeRequest) -> HTTPResponse:
    """GET api/load: what happens per second since this was asked before, and what is going on now.

    Bytes of keys are not counted: they are 0.
    """
    server = request.server
    rates = server.monitor.rates()
    threads = request.engine.pool._max_workers
    return json_response(
        {
            "file bytes read": rates.disk_read,
            "file bytes written": rates.disk_written,
            "key bytes read": 0,
            "key bytes written": 0,
            "value bytes read": rates.bytes_out,
            "value bytes written": rates.bytes_in,
            "GET requests": rates.gets,
            "PUT requests": rates.puts,
            "handlers active": 100 * server.monitor.active // threads,
            "goroutines": len(asyncio.all_tasks()) + threading.active_count(),
            "active CGo writes": request.engine.writer.waiting,
            "pending log messages": 0,
        }
    )


# -- /api/server ------------------------------------------------------------------------------


def get_info(request: NodeRequest) -> HTTPResponse:
    """GET api/server/info: versions, machine, storage and settings of this server, all as texts."""
    monitor = request.server.monitor
    if not monitor.info:
        facts = sorted(_fixed_info(request.server.settings).items())
        before = [_pair(*fact) for fact in facts if fact[0] < "Server time"]
        behind = [_pair(*fact) for fact in facts if fact[0] > "Server time"]
        monitor.info = (",".join(before), ",".join(behind))
    now = monitor.clock.now_ns()
    pairs = [
        monitor.info[0],
        f'"Server time":"{gojson.time_string(now)}"',
        f'"Server uptime":"{duration(now - monitor.started_ns)}"',
        monitor.info[1],
    ]
    if halted := request.engine.writer.halted:
        reasons = "; ".join(f"{root}: {why}" for root, why in sorted(halted.items()))
        pairs.append(_pair("Writes halted", reasons))
    return HTTPResponse(f"{{{','.join(pairs)}}}", 200, content_type=JSON)


get_info.quick = True  # type: ignore[attr-defined]


def _pair(name: str, value: str) -> str:
    return f"{gojson.string(name)}:{gojson.string(value)}"


def _fixed_info(settings: Settings) -> dict[str, str]:
    """Return what does not change while the server runs."""
    usable = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    found = {
        "Cores": str(os.cpu_count() or 1),
        "DVID Version": DVID_VERSION,
        "DVID-ES Version": __version__,
        "Datastore Version": DATASTORE_VERSION,
        "Durability": settings.durability,
        "Host": settings.address,
        "Max Open Files": str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        "Maximum Cores": str(usable),
        "Note": settings.note,
        "Python": platform.python_version(),
        "Storage backend": f"{settings.log_backend}; lmdb; packs",
    }
    if settings.mode:
        read_only = settings.mode == "readonly"
        found["Mode"] = "read only" if read_only else "allow writes on committed nodes"
    if settings.config_path is not None:
        found["TOML location"] = str(settings.config_path)
    if settings.kafka_servers:
        found["Kafka Servers"] = ",".join(settings.kafka_servers)
        host = settings.public_host or settings.host
        found["Kafka Activity Topic"] = settings.kafka_activity_topic or f"dvidactivity-{host}"
    if settings.kafka_topic_prefix:
        found["Kafka Topic Prefix"] = settings.kafka_topic_prefix
    return found


def duration(nanoseconds: int) -> str:
    """Return a length of time as Go prints it from a second on: `1h2m3.5s`."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    text = f"{second}.{fraction:09d}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minute}m{text}"
    return f"{minute}m{text}" if minute else text


def get_note(request: NodeRequest) -> HTTPResponse:
    """GET api/server/note: the note in the settings of this server."""
    return HTTPResponse(request.server.settings.note, 200, content_type=PLAIN)


def get_config(request: NodeRequest) -> HTTPResponse:
    """GET api/server/config: the configuration file as it was read. For admins."""
    _need_admin(request)
    return HTTPResponse(request.server.settings.shown(), 200, content_type=PLAIN)


def get_types(request: NodeRequest) -> HTTPResponse:
    """GET api/server/types: the datatypes in use, as an object of name and URL."""
    used = {
        instance.typename for _, repo in request.engine.repos() for instance in repo.names.values()
    }
    return _types(request, used)


def get_compiled_types(request: NodeRequest) -> HTTPResponse:
    """GET api/server/compiled-types: all datatypes of this server, as an object of name and URL."""
    return _types(request, set(request.server.datatypes))


def _types(request: NodeRequest, names: set[str]) -> HTTPResponse:
    datatypes = request.server.datatypes
    return json_response({name: datatypes[name].url for name in sorted(names)})


def get_group_cache(request: NodeRequest) -> HTTPResponse:
    """GET api/server/groupcache: counters of a cache that this server has no need of: all zero."""
    del request
    names = (
        "Gets CacheHits PeerLoads PeerErrors Loads LoadsDeduped LocalLoads LocalLoadErrs"
        " ServerRequests"
    )
    zeros: dict[str, Any] = dict.fromkeys(names.split(), 0)
    return json_response({**zeros, "MainCache": NO_KINDS, "HotCache": NO_KINDS})


def get_token(request: NodeRequest) -> HTTPResponse:
    """GET api/server/token: refused, since this server asks nobody for a token."""
    del request
    raise InvalidRequest(
        "this server gives no tokens: it asks for none, and requests need no Authorization"
    )


def post_settings(request: NodeRequest) -> HTTPResponse:
    """POST api/server/settings: set "throttle" and "gc", as numbers or texts. For admins.

    throttle is how many throttled operations may run at once; gc is remembered and has no effect.
    """
    _need_admin(request)
    body = parse_json_object(request.body)
    numbers = {name: _number(name, body[name]) for name in ("gc", "throttle") if name in body}
    monitor = request.server.monitor
    lines = []
    if "throttle" in numbers:
        before = monitor.set_max_throttled(numbers["throttle"])
        lines.append(f"Maximum throttled ops set to {numbers['throttle']} from {before}\n")
    if "gc" in numbers:
        before, monitor.gc_percent = monitor.gc_percent, numbers["gc"]
        text = "DVID server garbage collection target percentage set to"
        lines.insert(0, f"{text} {numbers['gc']} from {before}\n")
    return HTTPResponse("".join(lines), 200, content_type=PLAIN)


def _number(name: str, value: Any) -> int:
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str):
        raise InvalidRequest(f"Setting for '{name}' must be a number or the text of one")
    return parse_signed(value, f"Setting for '{name}'")


def post_reload_auth(request: NodeRequest) -> HTTPResponse:
    """POST api/server/reload-auth: nothing to do here, where no file of users is read. For admins."""
    _need_admin(request)
    return HTTPResponse('Reloaded authorizations from file "".\n', 200, content_type=PLAIN)


def post_reload_blocklist(request: NodeRequest) -> HTTPResponse:
    """POST api/server/reload-blocklist: read the list of blocked users again. For admins."""
    _need_admin(request)
    path = request.server.settings.block_list_file
    request.server.block_list = load_block_list(path)
    return HTTPResponse(f'Reloaded block list from file "{path or ""}".\n', 200, content_type=PLAIN)


def post_reload_metadata(request: NodeRequest) -> HTTPResponse:
    """POST api/server/reload-metadata: nothing to do, since metadata are never out of date."""
    del request
    return empty()


async def get_storage(request: NodeRequest) -> HTTPResponse:
    """GET api/storage: bytes of logs, packs and views, by repository and instance. For admins."""
    if not request.is_admin:
        raise InvalidRequest(
            "Storage summary takes considerable resources and is only available to admin users."
        )
    return json_response(await request.in_thread(storage_summary, request.engine))


def _need_admin(request: NodeRequest) -> None:
    if not request.is_admin:
        raise InvalidRequest(
            f"{request.method} {request.path} requires admin privileges (admintoken or DSG admin)"
        )


# -- pages ------------------------------------------------------------------------------------


def get_help(request: NodeRequest) -> HTTPResponse:
    """GET api/help[/<datatype>]: this page, or the endpoints of a datatype as text."""
    if request.words and request.words[0]:
        return HTTPResponse(datatype_help(request, request.words[0]), 200, content_type=PLAIN)
    return HTTPResponse(server_help(request), 200, content_type=HTML)


get_help.takes_words = True  # type: ignore[attr-defined]


def get_interface(request: NodeRequest) -> HTTPResponse:
    """GET interface: the endpoints of this server in RAML."""
    return HTTPResponse(raml(request), 200, content_type="application/raml+yaml")


def get_interface_version(request: NodeRequest) -> HTTPResponse:
    """GET interface/version: the version of that description."""
    del request
    return HTTPResponse("v1\n", 200, content_type=PLAIN)


def get_landing_page(request: NodeRequest) -> HTTPResponse:
    """GET /: what runs here, for people."""
    return HTTPResponse(landing_page(request), 200, content_type="text/html; charset=utf-8")


SERVER_ROUTES: dict[str, Handler] = {
    "GET ": get_landing_page,
    "GET api/heartbeat": get_heartbeat,
    "GET api/user-latencies": get_user_latencies,
    "GET api/load": get_load,
    "GET api/help": get_help,
    "GET api/storage": get_storage,
    "GET api/server/info": get_info,
    "GET api/server/note": get_note,
    "GET api/server/config": get_config,
    "GET api/server/types": get_types,
    "GET api/server/compiled-types": get_compiled_types,
    "GET api/server/groupcache": get_group_cache,
    "GET api/server/token": get_token,
    "POST api/server/settings": post_settings,
    "POST api/server/reload-auth": post_reload_auth,
    "POST api/server/reload-blocklist": post_reload_blocklist,
    "POST api/server/reload-metadata": post_reload_metadata,
    "GET interface": get_interface,
    "GET interface/version": get_interface_version,
}
