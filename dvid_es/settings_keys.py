"""The keys of the configuration file: DVID's, and ours in `[dvid_es]`.

Source: tomlConfig in server/server_local.go (janelia-flyem/dvid).
"""

from typing import NamedTuple

_KINDS: dict[type, str] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list of texts",
}


class Key(NamedTuple):
    """One key of a section."""

    name: str
    """As DVID spells it; it matches in any case."""

    kind: type
    field: str = ""
    """Field of `Settings`; empty for a key that is accepted and does nothing."""

    reason: str = ""
    """Why it does nothing."""

    @property
    def kind_name(self) -> str:
        """The kind of value, for people."""
        return _KINDS[self.kind]


_NO_RPC = "there is no RPC port; administration goes over HTTP"
_NO_FILES = "this version serves no static files"
_NO_LIMIT = "nothing here runs in the background that interactive requests would wait for"
_LOG = "the log goes to standard error; let the service manager keep it"
_PLAIN_IDS = "instance numbers belong to one repository and need no range"

_SERVER = (
    Key("httpAddress", str, "address"),
    Key("host", str, "host_alias"),
    Key("note", str, "note"),
    Key("corsDomains", list, "cors_domains"),
    Key("rwmode", str, "mode"),
    Key("allowLabelmapSplit", bool, "allow_split"),
    Key("shutdownDelay", float, "shutdown_seconds"),
    Key("rpcAddress", str, reason=_NO_RPC),
    Key("webClient", str, reason=_NO_FILES),
    Key("webDefaultFile", str, reason=_NO_FILES),
    Key("webRedirectPath", str, reason=_NO_FILES),
    Key("pidFile", str, reason="the lock of the data folder does what it was for"),
    Key("blockListFile", str, reason="this version blocks no users"),
    Key("allowTiming", bool, reason="this version sends no Timing-Allow-Origin"),
    Key("startWebhook", str, reason="this version calls nobody at its start"),
    Key("startJaneliaConfig", str, reason="this version calls nobody at its start"),
    Key("instance_id_gen", str, reason=_PLAIN_IDS),
    Key("instance_id_start", int, reason=_PLAIN_IDS),
    Key("min_mutation_id_start", int, reason="mutation ids are counted in each repository's log"),
    Key("interactiveOpsBeforeBlock", int, reason=_NO_LIMIT),
)

_LOGGING = (
    Key("logfile", str, reason=_LOG),
    Key("max_log_size", int, reason=_LOG),
    Key("max_log_age", int, reason=_LOG),
)

_MUTATIONS = (
    Key("jsonstore", str, reason="mutation records are made from the event log"),
    Key("httpstore", str, reason="the event log replaces the log of requests"),
    Key("blobstore", str, reason="the event log replaces the log of requests"),
)

_OURS = (
    Key("data", str, "data"),
    Key("admin_token", str, "admin_token"),
    Key("open_repo_creation", bool, "open_repo_creation"),
    Key("max_body_bytes", int, "max_body_bytes"),
    Key("insecure_bind", bool, "insecure_bind"),
    Key("snapshots_kept", int, "snapshots_kept"),
)

BY_SECTION: dict[str, dict[str, Key]] = {
    section: {key.name.lower(): key for key in keys}
    for section, keys in (
        ("server", _SERVER),
        ("logging", _LOGGING),
        ("mutations", _MUTATIONS),
        ("dvid_es", _OURS),
    )
}
"""Keys by section, both in lower case."""

FREE_SECTIONS = {
    "email": "this version sends no mail",
    "kafka": "this version publishes to no broker",
    "store": "everything lies in the one data folder",
    "backend": "everything lies in the one data folder",
    "mirror": "this version copies requests to no other server",
    "cache": "caches size themselves",
    "mutcache": "any earlier state is read from the event log: use ?at=",
    "groupcache": "one server needs no shared cache",
}
"""Sections of DVID that are accepted whole and do nothing, each with the reason."""
