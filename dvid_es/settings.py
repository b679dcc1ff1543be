"""The settings of a server: one frozen value, made once. The only reader of the environment.

The file is DVID's TOML with one section more, `[dvid_es]`. Keys match in any case; an unknown one is
an error that names the nearest known key, because a setting that is silently ignored is a trap.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from dvid_es.errors import SettingsError
from dvid_es.settings_keys import BY_SECTION, FREE_SECTIONS, Key

MODES = ("", "readonly", "fullwrite")
TOKEN_VARIABLE = "DVID_ADMIN_TOKEN"
"""Environment variable of the admin token, as in DVID."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a server is told at its start; docs/settings.md says how."""

    data: Path
    """Folder of logs, packs and projections."""

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: int = 8000
    """Port to listen on, 0 for any that is free."""

    mode: str = ""
    """`""`, `"readonly"` or `"fullwrite"` (committed versions may change)."""

    admin_token: str = ""
    """Empty: nobody is an admin."""

    open_repo_creation: bool = True
    """Whether anybody may create a repository; DVID itself wants the admin token."""

    allow_split: bool = False
    """Whether POST split of labelmap is allowed."""

    cors_domains: tuple[str, ...] = ()
    """Origins that browsers may call from; `"*"` for all."""

    max_body_bytes: int = 4 << 30
    """Largest body of a request, in bytes."""

    note: str = ""
    """Text of GET /api/server/note."""

    host_alias: str = ""
    """Name of the server in its info; empty for that of the machine."""

    insecure_bind: bool = False
    """Whether to listen on addresses that other machines reach though nobody must log in."""

    snapshots_kept: int = 3
    """How many snapshots stay when one is taken, at least 1."""

    shutdown_seconds: float = 5.0
    """How long requests may go on after a signal to stop."""


class Loaded(msgspec.Struct, frozen=True):
    """Settings, and what an operator should know about the file."""

    settings: Settings
    warnings: tuple[str, ...] = ()
    """Keys of DVID that have no effect here, each with the reason."""


def load(
    path: Path | None,
    overrides: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Loaded:
    """Return the settings of a file, of the environment and of the command line.

    Args:
        path: TOML file; None for none.
        overrides: fields of `Settings` that win over the file; None values are passed over.
        environment: of the process if None.

    Raises:
        SettingsError: the file cannot be read, a key is unknown, or a value is wrong.
    """
    environment = os.environ if environment is None else environment
    found: dict[str, Any] = {}
    warnings: list[str] = []
    if path is not None:
        _read_document(_parse(path), path.absolute().parent, found, warnings)
    if token := environment.get(TOKEN_VARIABLE):
        found["admin_token"] = token
    found |= {name: value for name, value in (overrides or {}).items() if value is not None}
    found.setdefault("data", Path("dvid-data"))
    try:
        settings = msgspec.convert(found, Settings)
    except msgspec.ValidationError as problem:
        raise SettingsError(f"a setting has a wrong value: {problem}") from problem
    check(settings)
    return Loaded(settings, tuple(warnings))


def check(settings: Settings) -> None:
    """Refuse values that have the right type and make no sense.

    Raises:
        SettingsError: naming the setting.
    """
    if settings.mode not in MODES:
        raise SettingsError(f'rwmode "{settings.mode}" is none of "", "readonly", "fullwrite"')
    if not 0 <= settings.port <= 65535:
        raise SettingsError(f"port {settings.port} is not within 0 ... 65535")
    if settings.max_body_bytes < 1 << 20:
        raise SettingsError("max_body_bytes must be at least 1048576 (1 MiB)")
    if settings.snapshots_kept < 1:
        raise SettingsError("snapshots_kept must be at least 1")
    if not 0 <= settings.shutdown_seconds <= 3600:
        raise SettingsError("shutdown_seconds must be within 0 ... 3600")


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as problem:
        raise SettingsError(f"the configuration cannot be read: {problem}") from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise SettingsError(f"{path} is not TOML: {problem}") from problem


def _read_document(
    document: dict[str, Any], folder: Path, found: dict[str, Any], warnings: list[str]
) -> None:
    for section, content in document.items():
        name = section.lower()
        if name == "auth":
            _refuse_logins(content)
            continue
        if name in FREE_SECTIONS:
            warnings.append(f"[{section}] has no effect: {FREE_SECTIONS[name]}")
            continue
        keys = BY_SECTION.get(name)
        if keys is None:
            known = [*BY_SECTION, *FREE_SECTIONS, "auth"]
            raise SettingsError(f"unknown section [{section}]{_nearest(name, known)}")
        if not isinstance(content, dict):
            raise SettingsError(f"{section} must be a section: [{section}]")
        for key, value in content.items():
            known_key = keys.get(key.lower())
            if known_key is None:
                spelled = [entry.name for entry in keys.values()]
                raise SettingsError(f"unknown key {key} in [{section}]{_nearest(key, spelled)}")
            _take(known_key, value, section, folder, found, warnings)


def _refuse_logins(content: Any) -> None:
    """Pass over DVID's [auth] only where it asks for nothing: no promise may be dropped silently."""
    wanted = content.get("enforce", "none") if isinstance(content, dict) else content
    if wanted not in ("", "none"):
        raise SettingsError(
            f"[auth] asks for logins (enforce = {wanted!r}), which this version cannot check:"
            ' put a proxy in front that does, and set enforce = "none"'
        )


def _take(
    key: Key, value: Any, section: str, folder: Path, found: dict[str, Any], warnings: list[str]
) -> None:
    where = f"{key.name} in [{section}]"
    if key.kind is float and type(value) is int:
        value = float(value)
    if type(value) is not key.kind:
        raise SettingsError(
            f"{where} must be {key.kind_name}, not {type(value).__name__} {value!r}"
        )
    if not key.field:
        warnings.append(f"{where} has no effect: {key.reason}")
    elif key.field == "address":
        host, colon, port = value.rpartition(":")
        if not colon or not (port.isascii() and port.isdigit()):
            raise SettingsError(f'{where} must look like "localhost:8000", not {value!r}')
        found["host"], found["port"] = host.strip("[]") or "0.0.0.0", int(port)
    elif key.field == "data":
        found["data"] = folder / value
    elif key.kind is list:
        if not all(isinstance(item, str) for item in value):
            raise SettingsError(f"{where} must be a list of texts")
        found[key.field] = tuple(value)
    else:
        found[key.field] = value


def _nearest(name: str, known: list[str]) -> str:
    lower = {item.lower(): item for item in known}
    found = difflib.get_close_matches(name.lower(), lower, 1, 0.5)
    if found:
        return f": did you mean {lower[found[0]]}?"
    return f"; known are {', '.join(sorted(known))}"
