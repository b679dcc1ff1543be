"""Users and addresses that this server does not serve.

Source: block list in server/web.go and server_local.go (janelia-flyem/dvid): lines `u=<user>[,note]`
and `ip=<a.b.c.d>[,note]`, where an octet may be `*`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dvid_es.errors import InvalidRequest

_IP = re.compile(r"(?:[0-9]{1,3}|\*)(?:\.(?:[0-9]{1,3}|\*)){3}\Z")


@dataclass(frozen=True, slots=True)
class BlockList:
    """Reasons by user and by address pattern."""

    users: dict[str, str]
    addresses: tuple[tuple[str, str], ...] = ()

    def reason(self, user: str, address: str) -> str | None:
        """Return why a request is blocked, or None."""
        if user and user in self.users:
            return f'User "{user}" is blocked: {self.users[user]}'
        octets = address.split(".")
        for pattern, note in self.addresses:
            if len(octets) == 4 and all(
                part in ("*", octet) for part, octet in zip(pattern.split("."), octets, strict=True)
            ):
                return f'IP "{address}" is blocked: {note}'
        return None


NOBODY = BlockList({})


def parse(lines: Iterable[str], name: str) -> BlockList:
    """Return a block list.

    Raises:
        InvalidRequest: a line is neither a user nor an address; names file and line.
    """
    users: dict[str, str] = {}
    addresses = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        entry, _, note = text.partition(",")
        kind, equals, value = (part.strip() for part in entry.partition("="))
        if kind == "u" and equals and value:
            users[value] = note.strip()
        elif kind == "ip" and _IP.match(value):
            addresses.append((value, note.strip()))
        else:
            raise InvalidRequest(
                f"{name}, line {number}: neither u=<user> nor ip=<a.b.c.d>: {text[:60]!r}"
            )
    return BlockList(users, tuple(addresses))


def load(path: Path | None) -> BlockList:
    """Return the block list in a file; none of no file.

    Raises:
        InvalidRequest: it cannot be read, or a line is wrong.
    """
    if path is None:
        return NOBODY
    try:
        return parse(path.read_text("utf-8").splitlines(), str(path))
    except (OSError, UnicodeDecodeError) as problem:
        raise InvalidRequest(f"the block list cannot be read: {problem}") from problem


def client_address(forwarded: str, forwarded_for: str, peer: str) -> str:
    """Return the address of a client: from Forwarded, else the first of X-Forwarded-For, else peer."""
    for part in forwarded.split(",")[0].split(";"):
        name, _, value = part.strip().partition("=")
        if name.lower() == "for" and value:
            return _host(value.strip('"'))
    if forwarded_for:
        return _host(forwarded_for.split(",")[0].strip())
    return peer


def _host(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if text.count(":") == 1 else text
