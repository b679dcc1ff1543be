"""The configuration of a new instance: settings in any case, values as text, as DVID takes them.

Source: dvid/config.go and NewData in datastore/datastore.go (janelia-flyem/dvid).
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from dvid_es.errors import InvalidRequest

COMPRESSIONS = {
    "none": "No compression",
    "snappy": "Go Snappy compression",
    "lz4": "LZ4 compression",
    "gzip": "gzip compression",
    "jpeg": "jpeg compression",
}
"""Names of compressions in requests, and in info before `, level N`."""

CHECKSUMS = {"none": "No checksum", "crc32": "CRC32 checksum"}

_LEVEL = re.compile(r"[+-]?[0-9]{1,9}\Z")
_TRUE, _FALSE = ("true", "1"), ("false", "0")


class Configuration(Mapping[str, str]):
    """Settings by name in any case. Only a setting that is asked for must be text."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Keep the values of a JSON object; of names that differ in case only, the last one."""
        self._values = {name.lower(): (name, value) for name, value in values.items()}

    def __getitem__(self, name: str) -> str:
        """Return a setting.

        Raises:
            InvalidRequest: it is there but not text.
        """
        given, value = self._values[name.lower()]
        if not isinstance(value, str):
            shown = json.dumps(value)[:60]
            raise InvalidRequest(f"Setting for '{given}' was not a string: {shown}")
        return value

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in lower case."""
        return iter(self._values)

    def __len__(self) -> int:
        """Return the number of settings."""
        return len(self._values)

    def raw(self, name: str) -> Any:
        """Return a setting as it was given, or None."""
        return self._values.get(name.lower(), ("", None))[1]

    def shown(self) -> str:
        """Return all settings as the log of a repository shows them: `map[dataname:x ...]`."""
        items = (
            f"{name}:{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
            for name, (_, value) in sorted(self._values.items())
        )
        return f"map[{' '.join(items)}]"


def parse_compression(config: Mapping[str, str], default: str = "lz4") -> str:
    """Return the compression of a new instance as info shows it; `config` has lower-case names.

    Raises:
        InvalidRequest: there is no such compression.
    """
    text = config.get("compression", default)
    name, colon, level = text.lower().partition(":")
    if name not in COMPRESSIONS or (colon and name != "gzip"):
        raise InvalidRequest(f"Illegal compression specified: {text}")
    number = -1
    if colon:
        if not _LEVEL.match(level):
            raise InvalidRequest(
                f"unable to parse gzip compression level (\"{level}\").  Should be 'gzip:<level>'"
            )
        number = max(-1, min(9, int(level)))  # DVID takes any number and then does not compress
    elif name == "jpeg":
        number = _first_side(config)
    return f"{COMPRESSIONS[name]}, level {number}"


def parse_checksum(config: Mapping[str, str]) -> str:
    """Return the checksum of a new instance as info shows it.

    Raises:
        InvalidRequest: there is no such checksum.
    """
    text = config.get("checksum", "none")
    if text.lower() not in CHECKSUMS:
        raise InvalidRequest(f"Illegal checksum specified: {text}")
    return CHECKSUMS[text.lower()]


def parse_boolean(text: str) -> bool:
    """Return a yes or no of a configuration.

    Raises:
        InvalidRequest: it is neither.
    """
    if text.lower() in ("true", "1", "on"):
        return True
    if text.lower() in ("false", "0", "off"):
        return False
    raise InvalidRequest(f"Cannot parse '{text}' as a boolean.  Use 'true', 'false', '0', or '1'.")


def parse_tags(config: Mapping[str, str]) -> dict[str, str] | None:
    """Return the tags of a setting such as "a=b,c=d", or None; what is not a pair is dropped."""
    text = config.get("tags")
    if text is None:
        return None
    pairs = (part.split("=") for part in text.split(","))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and pair[0]}


def parse_versioned(config: Configuration) -> bool:
    """Return whether a new instance has a value at each version: the default.

    Raises:
        InvalidRequest: neither yes nor no.
    """
    if isinstance(config.raw("versioned"), bool):
        return bool(config.raw("versioned"))
    text = config.get("versioned", "true")
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise InvalidRequest(
        "Illegal setting for 'versioned' (needs to be 'false', '0', 'true', or '1'): " + text
    )


def _first_side(config: Mapping[str, str]) -> int:
    """Return the level that DVID shows for jpeg: the first side of a block."""
    side = config.get("blocksize", "32").split(",")[0].strip()
    return int(side) if _LEVEL.match(side) else 32
