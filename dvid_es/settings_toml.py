"""The keys of a configuration file: DVID's own, and ours in [dvid_es], [log] and [limits].

DVID passes over keys that it does not know. Here such a key is an error that names the nearest known
one; keys of DVID without meaning here are told as notices, and what would be unsafe to pass over is an
error. Source: tomlConfig in server/server_local.go (janelia-flyem/dvid).
"""

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dvid_es.errors import SettingsError

Convert = Callable[[Any, Path], dict[str, Any]]
"""Turns a value (and the folder of the file) into fields of Settings; TypeError says what it must be."""

DEFAULT_PORT = 8000


class Ignored(NamedTuple):
    """A key of DVID that has no effect here."""

    reason: str


def _text(field: str) -> Convert:
    def convert(value: Any, folder: Path) -> dict[str, Any]:
        del folder
        if not isinstance(value, str):
            raise TypeError("a text in quotes")
        return {field: value}

    return convert


def _texts(field: str) -> Convert:
    def convert(value: Any, folder: Path) -> dict[str, Any]:
        del folder
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise TypeError("a list of texts")
        return {field: tuple(value)}

    return convert


def _suffixes(value: Any, folder: Path) -> dict[str, Any]:
    del folder
    pairs = [item.partition(":") if isinstance(item, str) else ("", "", "") for item in value or ()]
    if not isinstance(value, list) or not all(uuid and suffix for uuid, _, suffix in pairs):
        raise TypeError('a list of "<UUID of a data instance>:<suffix>"')
    return {"kafka_topic_suffixes": tuple((uuid, suffix) for uuid, _, suffix in pairs)}


def _path(field: str) -> Convert:
    def convert(value: Any, folder: Path) -> dict[str, Any]:
        if not isinstance(value, str):
            raise TypeError("a path in quotes")
        return {field: folder / value if value else None}

    return convert


def _number(field: str, least: int = 0) -> Convert:
    def convert(value: Any, folder: Path) -> dict[str, Any]:
        del folder
        if type(value) is not int or value < least:
            raise TypeError(f"a whole number of at least {least}")
        return {field: value}

    return convert


def _yes(field: str) -> Convert:
    def convert(value: Any, folder: Path) -> dict[str, Any]:
        del folder
        if not isinstance(value, bool):
            raise TypeError("true or false")
        return {field: value}

    return convert


def _choice(field: str, choices: Mapping[str, str]) -> Convert:
    def convert(value: Any, folder: Path) -> dict[str, Any]:
        del folder
        if not isinstance(value, str) or value.lower() not in choices:
            raise TypeError("one of " + ", ".join(f'"{choice}"' for choice in choices))
        return {field: choices[value.lower()]}

    return convert


def _address(value: Any, folder: Path) -> dict[str, Any]:
    """Read `host:port`; an empty host is every address of this machine, as in Go."""
    del folder
    expected = 'an address such as "localhost:8000"'
    if not isinstance(value, str):
        raise TypeError(expected)
    host, colon, port = value.rpartition(":")
    if not colon:
        host, port = value, str(DEFAULT_PORT)
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise TypeError(expected)
    return {"host": host.strip("[]") or "0.0.0.0", "port": int(port)}


def _no_auth(value: Any, folder: Path) -> dict[str, Any]:
    del folder
    if value not in ("", "none"):
        # To start without the checks that the operator counts on would open the data to everybody.
        raise TypeError(
            '"none": other ways to check who calls are not built into this version; put a proxy that'
            " checks in front of the server"
        )
    return {}


_ONE_LOG = "all that happens is in the event log of its repository"
_NO_USERS = "nobody has to show who they are in this version"
_MODES = {"": "", "readonly": "readonly", "fullwrite": "fullwrite"}
_PROTOCOLS = {name: name.upper() for name in ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")}
_MECHANISMS = {name.lower(): name for name in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")}
_BACKENDS = {"filelog": "filelog", "kafka": "kafka"}
_LEVELS = {level: level for level in ("debug", "info", "warning", "error", "critical")}

KEYS: dict[str, dict[str, Convert | Ignored]] = {
    "server": {
        "host": _text("public_host"),
        "httpAddress": _address,
        "rpcAddress": Ignored("there is no RPC port: the command line speaks HTTP"),
        "webClient": _path("web_client"),
        "webDefaultFile": _text("web_default_file"),
        "webRedirectPath": _text("web_redirect_path"),
        "pidFile": _path("pid_file"),
        "note": _text("note"),
        "corsDomains": _texts("cors_domains"),
        "rwmode": _choice("mode", _MODES),
        "blockListFile": _path("block_list_file"),
        "allowTiming": _yes("allow_timing"),
        "startWebhook": _text("start_webhook"),
        "startJaneliaConfig": _text("start_janelia_config"),
        "allowLabelmapSplit": _yes("allow_split"),
        "noLabelmapSplit": Ignored("allowLabelmapSplit is the key that DVID reads"),
        "instance_id_gen": Ignored("instances are numbered within their repository"),
        "instance_id_start": Ignored("instances are numbered within their repository"),
        "min_mutation_id_start": Ignored("mutation ids begin at 1,000,000,000 in each repository"),
        "interactiveOpsBeforeBlock": Ignored("nothing runs in the background that would wait"),
        "shutdownDelay": _number("shutdown_seconds"),
    },
    "logging": {
        "logfile": _path("log_file"),
        "level": _choice("log_level", _LEVELS),
        "max_log_size": _number("log_max_megabytes"),
        "max_log_age": Ignored("a fixed number of files is kept, whatever their age"),
    },
    "email": {
        name: Ignored("this server sends no mail")
        for name in ("notify", "username", "password", "server", "port")
    },
    "mutations": {
        "jsonstore": Ignored(f"{_ONE_LOG}, and `mutations` always works"),
        "httpstore": Ignored(_ONE_LOG),
        "blobstore": Ignored(_ONE_LOG),
    },
    "kafka": {
        "servers": _texts("kafka_servers"),
        "topicActivity": _text("kafka_activity_topic"),
        "topicPrefix": _text("kafka_topic_prefix"),
        "topicSuffixes": _suffixes,
        "bufferSize": Ignored("DVID does not read it either"),
        "secProtocol": _choice("kafka_security", _PROTOCOLS),
        "saslMechanisms": _choice("kafka_sasl_mechanism", _MECHANISMS),
        "saslUsername": _text("kafka_sasl_username"),
        "saslPassword": _text("kafka_sasl_password"),
        "tlsCaFile": _path("kafka_ca_file"),
        "tlsCertFile": _path("kafka_cert_file"),
        "tlsKeyFile": _path("kafka_key_file"),
    },
    "log": {
        "backend": _choice("log_backend", _BACKENDS),
        "topicPrefix": _text("log_topic_prefix"),
        "timeoutSeconds": _number("log_timeout_seconds", 1),
    },
    "auth": {
        "enforce": _no_auth,
        "enforce_internal": _no_auth,
        "no_enforce": Ignored(_NO_USERS),
        **{
            name: Ignored(_NO_USERS)
            for name in (
                "auth_file",
                "public_versions",
                "dsg_address",
                "dsg_cache_ttl",
                "trusted_proxies",
                "dataset_map",
            )
        },
        "proxy_address": _no_auth,
    },
    "groupcache": {
        name: Ignored("values are read from memory-mapped files, which the system caches")
        for name in ("gb", "host", "peers", "instances")
    },
    "dvid_es": {
        "data": _path("data"),
        "openRepoCreation": _yes("open_repo_creation"),
        "allowOpenBind": _yes("allow_open_bind"),
        "snapshotsKept": _number("snapshots_kept", 1),
        "exportRoot": _path("export_root"),
    },
    "limits": {
        "maxBodyBytes": _number("max_body_bytes", 1),
        "maxHeadBytes": _number("max_head_bytes", 8192),
        "answerBytes": _number("answer_bytes", 1 << 20),
        "maxThrottled": _number("max_throttled", 1),
        "exportKeepFreeBytes": _number("export_keep_free_bytes"),
        "jobsAtOnce": _number("jobs_at_once", 1),
    },
    "sql": {
        "seconds": _number("sql_seconds", 1),
        "memoryMegabytes": _number("sql_memory_megabytes", 64),
        "threads": _number("sql_threads", 1),
        "atOnce": _number("sql_at_once", 1),
        "resultMegabytes": _number("sql_result_megabytes", 1),
        "tailEvents": _number("sql_tail_events", 1),
    },
}
"""Known keys, spelled as in the documentation, by section; case does not matter."""

NAMED = {
    "store": ("engine", "path"),
    "backend": ("store", "log"),
    "cache": ("size",),
    "mutcache": ("path",),
    "mirror": ("servers",),
}
"""Sections with one part for each name, such as [store.fast], and their keys."""


class _File:
    """A file that is being read: where its keys are, and what was found."""

    def __init__(self, text: str, path: Path) -> None:
        self.text = text
        self.path = path
        self.folder = path.resolve().parent
        self.fields: dict[str, Any] = {}
        self.notices: list[str] = []

    def fail(self, section: str, key: str, problem: str) -> SettingsError:
        """Return an error that says where."""
        line = _line_of(self.text, section, key)
        at = f"{self.path}, line {line}" if line else str(self.path)
        return SettingsError(f"{at}, [{section}]: {problem}" if section else f"{at}: {problem}")

    def unknown(self, section: str, key: str, what: str, known: Iterable[str]) -> SettingsError:
        """Return the error of an unknown name, with the nearest known one."""
        names = {name.lower(): name for name in known}
        near = difflib.get_close_matches(key.lower(), names, 1, 0.6)
        hint = f'did you mean "{names[near[0]]}"?' if near else "known are " + ", ".join(known)
        return self.fail(section, key, f'unknown {what} "{key}"; {hint}')


def parse(text: str, path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return fields of Settings, and what has no effect, from the text of a file.

    Relative paths are taken from the folder of the file.

    Raises:
        SettingsError: a section or key is unknown, or a value is wrong; with its line.
    """
    try:
        sections = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise SettingsError(f"{path}: not TOML: {problem}") from None
    file = _File(text, path)
    for name, content in sections.items():
        lower = name.lower()
        if lower not in KEYS and lower not in NAMED:
            raise file.unknown("", name, "section", [*KEYS, *NAMED])
        if not isinstance(content, dict):
            raise file.fail("", name, f'"{name}" is a section: write [{name}]')
        if lower in NAMED:
            _parse_named(file, lower, content)
        else:
            _parse_section(file, lower, content)
    _check_stores(file)
    if file.fields.get("log_backend") == "kafka" and not file.fields.get("kafka_servers"):
        raise file.fail("log", "backend", 'backend = "kafka" needs [kafka] servers = ["host:9092"]')
    return file.fields, file.notices


def _parse_section(file: _File, section: str, content: Mapping[str, Any]) -> None:
    known = {name.lower(): convert for name, convert in KEYS[section].items()}
    for key, value in content.items():
        convert = known.get(key.lower())
        if convert is None:
            raise file.unknown(section, key, "key", KEYS[section])
        if isinstance(convert, Ignored):
            file.notices.append(f"[{section}] {key} has no effect: {convert.reason}")
            continue
        try:
            file.fields.update(convert(value, file.folder))
        except TypeError as expected:
            raise file.fail(section, key, f"{key} must be {expected}") from None


def _parse_named(file: _File, section: str, content: Mapping[str, Any]) -> None:
    for name, part in content.items():
        here = f"{section}.{name}"
        if not isinstance(part, dict):
            raise file.fail(section, name, f"[{section}] has parts: write [{here}]")
        keys = {key.lower(): value for key, value in part.items()}
        if section != "store":  # engines have keys of their own
            for key in part:
                if key.lower() not in NAMED[section]:
                    raise file.unknown(here, key, "key", NAMED[section])
        if section == "mirror":
            raise file.fail(
                section, name, "nothing is mirrored by this version: remove the section"
            )
        if section == "store":
            engine = keys.get("engine")
            if not isinstance(engine, str) or not engine:
                raise file.fail(here, "engine", 'a store needs engine = "..."')
            file.fields.setdefault("stores", {})[name] = engine
        elif section == "backend":
            store, log = keys.get("store"), keys.get("log", "")
            if not isinstance(store, str) or not isinstance(log, str):
                raise file.fail(here, "store", 'an assignment needs store = "<alias>"')
            file.fields.setdefault("backends", {})[name] = (store, log)
        else:
            reason = "views are memory-mapped" if section == "cache" else _ONE_LOG
            file.notices.append(f"[{here}] has no effect: {reason}")


def _check_stores(file: _File) -> None:
    stores = file.fields.get("stores", {})
    backends = file.fields.get("backends", {})
    for spec, (store, log) in backends.items():
        for alias in (store, log):
            if alias and alias not in stores:
                raise file.unknown(f"backend.{spec}", alias, "store", stores or ["none"])
    if len(stores) > 1 and "default" not in backends:
        raise file.fail(
            "", "store", "with more than one store, [backend.default] says which is used"
        )
    if stores:
        names = ", ".join(f"{alias} ({engine})" for alias, engine in stores.items())
        file.notices.append(
            f"[store]: {names}: assignments are kept and shown in info; all data lie in the data folder"
        )


def _line_of(text: str, section: str, key: str) -> int:
    """Return the line on which a key or section stands, from 1; 0 if it is not found."""
    header = re.compile(r"\s*\[+\s*(.*?)\s*\]+\s*(?:#.*)?\Z")
    wanted = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", re.IGNORECASE)
    at = ""
    fallback = 0
    for number, line in enumerate(text.splitlines(), 1):
        if found := header.match(line):
            at = found[1].replace('"', "").replace("'", "").replace(" ", "").lower()
            if not section and at.split(".")[0] == key.lower():
                return number
            if at == section.lower() or at == f"{section}.{key}".lower():
                fallback = number
                if at != section.lower():
                    return number
        elif at == section.lower() and wanted.match(line):
            return number
    return fallback
