"""The settings of a server: one frozen value, made once. The only reader of the environment."""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from dvid_es.errors import SettingsError
from dvid_es.settings_toml import parse

DEFAULT_DATA = Path("dvid-data")


class StoreAssignment(msgspec.Struct, frozen=True):
    """Names of the stores that some instances are assigned to: `[backend."..."]` of DVID."""

    store: str
    log: str = ""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a server is told at its start."""

    data: Path
    """Folder of logs, packs and projections."""

    host: str = "127.0.0.1"
    port: int = 8000
    mode: str = ""
    """`""`, `"readonly"` or `"fullwrite"` (committed versions may change)."""

    admin_token: str = ""
    """Empty: nobody is an admin."""

    open_repo_creation: bool = True
    """Whether anybody may create a repository; DVID itself wants the admin token."""

    allow_split: bool = False
    """Whether POST split of labelmap is allowed."""

    cors_domains: tuple[str, ...] = ()
    """Origins of web pages that may read answers: `*`, `https://host`, or a domain."""

    max_body_bytes: int = 4 << 30
    """Longest body of a request."""

    max_head_bytes: int = 128 << 10
    """Longest request line and headers together: some clients ask for thousands of blocks by URL."""

    answer_bytes: int = 160 << 20
    """Memory that large answers may take together; what does not fit waits for the others."""

    max_throttled: int = 1
    """Requests with `throttle=true` that may run at once on the endpoints that know it."""

    allow_open_bind: bool = False
    """Whether to listen to other machines though nobody has to show who they are."""

    public_host: str = ""
    """Name that other machines know this one by; shown in info. Empty: the address bound to."""

    note: str = ""
    """Text of /api/server/note."""

    allow_timing: bool = False
    """Whether answers about instances let any web page measure them (Timing-Allow-Origin)."""

    block_list_file: Path | None = None
    """Users and addresses that are answered 429."""

    export_root: Path | None = None
    """Folder that exports are written below; None is `exports` in the data folder."""

    export_keep_free_bytes: int = 1 << 30
    """An export fails rather than leave less free on its disk."""

    jobs_at_once: int = 1
    """Long jobs, such as exports, that run at a time; others wait."""

    sql_seconds: float = 30
    """How long one query over history may take."""

    sql_memory_megabytes: int = 1024
    """Memory of one query."""

    sql_threads: int = 2
    """Threads of one query."""

    sql_at_once: int = 2
    """Queries that may run at the same time; others are answered 503."""

    sql_result_megabytes: int = 64
    """Largest result of a query."""

    sql_tail_events: int = 200_000
    """Events that queries read from the log; when there are more, they are exported to Parquet."""

    snapshots_kept: int = 3
    """Copies of the views that are kept; older ones are removed when one is made."""

    pid_file: Path | None = None
    shutdown_seconds: float = 5
    """How long running requests may take to finish when the server stops."""

    web_client: Path | None = None
    """Folder of files served under /, where no endpoint is."""

    web_default_file: str = ""
    """Served for a path that is neither an endpoint nor a file."""

    web_redirect_path: str = ""
    """Where such a request is sent instead; wins over `web_default_file`."""

    start_webhook: str = ""
    """URL that is told of the start, as JSON."""

    start_janelia_config: str = ""
    """URL that is told of the start, as a form."""

    kafka_servers: tuple[str, ...] = ()
    kafka_activity_topic: str = ""
    kafka_topic_prefix: str = ""
    kafka_topic_suffixes: tuple[tuple[str, str], ...] = ()
    """Added to the topics of single data instances: UUID and suffix."""

    kafka_security: str = "PLAINTEXT"
    """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""

    kafka_sasl_mechanism: str = "PLAIN"
    """PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."""

    kafka_sasl_username: str = ""
    kafka_sasl_password: str = ""
    """Also from the environment, DVID_KAFKA_SASL_PASSWORD; never shown."""

    kafka_ca_file: Path | None = None
    """Certificates of the brokers that are trusted, PEM; None: those that this machine trusts."""

    kafka_cert_file: Path | None = None
    """Certificate that this server shows, PEM."""

    kafka_key_file: Path | None = None
    """Its key, unless it is in the same file."""

    log_backend: str = "filelog"
    """Where the events of a new repository go: `filelog` (the data folder) or `kafka`."""

    log_topic_prefix: str = "dvid-es-log-"
    """The topic of a repository is this and its root UUID."""

    log_timeout_seconds: int = 10
    """How long an append waits for Kafka before writes are answered 503."""

    log_file: Path | None = None
    """Where the server reports what it does; None is the standard error stream."""

    log_level: str = "info"
    log_max_megabytes: int = 0
    """The file is set aside when it is larger; 0 is never."""

    stores: Mapping[str, str] = {}
    """What each store alias stands for, as text."""

    backends: Mapping[str, StoreAssignment] = {}
    """Assignments by data UUID, `name:uuid`, `tag=value`, name of datatype, `default`, `metadata`."""

    config_path: Path | None = None
    """File that these settings were read from."""

    config_text: str = ""
    """That file as it was read."""

    notices: tuple[str, ...] = ()
    """What the file asks for that has no effect here, one sentence each."""

    def stores_of(
        self,
        *,
        data_uuid: str,
        name: str,
        version_uuid: str,
        tags: Mapping[str, str],
        typename: str,
    ) -> tuple[str, str]:
        """Return what info says of the stores of an instance: its values, and its log.

        Assignments are kept and shown; all of them lie in the one folder of this server's data.

        Source: priority as in storage/storage_local.go (janelia-flyem/dvid): data UUID, name and
        version, tag, datatype, default.
        """
        specs = [data_uuid, f"{name}:{version_uuid}"]
        specs += [f"{key}={value}" for key, value in sorted(tags.items())]
        specs += [f"{key}:{value}" for key, value in sorted(tags.items())]
        specs += [typename, "default"]
        found = next((self.backends[spec] for spec in specs if spec in self.backends), None)
        values, log = f"lmdb @ {self.data / 'projections'}", f"filelog @ {self.data / 'repos'}"
        if found is None:
            return values, log
        return f"{found.store}: {values}", f"{found.log}: {log}" if found.log else log

    @property
    def durability(self) -> str:
        """What a write has survived when it is answered, for people."""
        if self.log_backend == "kafka":
            return (
                "Kafka: all replicas in sync have an acknowledged write; a single one, on its disk"
            )
        return "D0: an acknowledged write is on the disk and survives a loss of power"

    @property
    def address(self) -> str:
        """Host and port as other machines know them."""
        return f"{self.public_host or self.host}:{self.port}"

    def shown(self) -> str:
        """Return the configuration file, or without one these settings as such a file."""
        if self.config_path is not None:
            if not self.kafka_sasl_password:
                return self.config_text
            return self.config_text.replace(self.kafka_sasl_password, "(not shown)")
        lines = ["# no configuration file was given; these settings are in force", "", "[server]"]
        lines += [f"httpAddress = {_quoted(f'{self.host}:{self.port}')}"]
        lines += [f"rwmode = {_quoted(self.mode)}"]
        lines += [f"allowLabelmapSplit = {str(self.allow_split).lower()}"]
        lines += [f"corsDomains = [{', '.join(map(_quoted, self.cors_domains))}]"]
        lines += ["", "[dvid_es]", f"data = {_quoted(str(self.data))}"]
        lines += [f"openRepoCreation = {str(self.open_repo_creation).lower()}"]
        lines += ["", "[limits]", f"maxBodyBytes = {self.max_body_bytes}"]
        return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def load(path: Path | None = None, **given: Any) -> Settings:
    """Return the settings of a file, of the environment, and as given, which counts most.

    Args:
        path: a TOML file as DVID has it, with our own sections; None is all defaults.
        given: fields of Settings; None stands for a field that is not given.

    Raises:
        SettingsError: the file cannot be read, or a key or value in it is wrong.
    """
    fields: dict[str, Any] = {"data": DEFAULT_DATA}
    if path is not None:
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as problem:
            raise SettingsError(f"{path} cannot be read: {problem}") from problem
        parsed, notices = parse(text, path)
        if "backends" in parsed:
            parsed["backends"] = {
                spec: StoreAssignment(*names) for spec, names in parsed["backends"].items()
            }
        fields |= parsed
        fields |= {"config_path": path.resolve(), "config_text": text, "notices": tuple(notices)}
    token = os.environ.get("DVID_ADMIN_TOKEN", "")  # noqa: TID251 - the one reader
    if token:
        fields["admin_token"] = token
    password = os.environ.get("DVID_KAFKA_SASL_PASSWORD", "")  # noqa: TID251
    if password:
        fields["kafka_sasl_password"] = password
    fields |= {name: value for name, value in given.items() if value is not None}
    return Settings(**fields)


def is_loopback(host: str) -> bool:
    """Say whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
