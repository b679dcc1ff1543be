#!/usr/bin/env python3
"""Keep a table of body sizes true by following the feed of a server.

    python docs/examples/body_sizes.py --server http://127.0.0.1:8000 UUID INSTANCE sizes.json

The table is of the version UUID. What an event touches is asked again *as of that event*, so the table
is what the server would have answered right after it, whatever happened since. The table and the last sequence
lie in one file, replaced whole: stop this program in any way, start it again, and nothing is missed or
counted twice.
"""

from __future__ import annotations

import argparse
import json
import struct
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VOXELS = ("labelmap.blocks-put", "labelmap.indices-put")
"""Events that touch more bodies than they name: the whole list is read again."""


def call(url: str, body: Any = None, method: str = "GET") -> bytes:
    """Return the body of an answer."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, method=method)) as answer:
        found: bytes = answer.read()
        return found


class Table:
    """Voxels of each body, as of a sequence."""

    def __init__(self, path: Path) -> None:
        self.path = path
        kept = json.loads(path.read_text()) if path.exists() else {"sequence": -1, "sizes": {}}
        self.sequence: int = kept["sequence"]
        self.sizes: dict[int, int] = {int(label): size for label, size in kept["sizes"].items()}

    def set(self, sequence: int, changed: dict[int, int]) -> None:
        """Note the sizes of some bodies after an event; 0 for those that are no more."""
        for label, size in changed.items():
            if size:
                self.sizes[label] = size
            else:
                self.sizes.pop(label, None)
        self.sequence = sequence
        waiting = self.path.with_suffix(".new")
        waiting.write_text(json.dumps({"sequence": sequence, "sizes": self.sizes}))
        waiting.replace(self.path)


def events(server: str, uuid: str, instance: str, start: int, follow: bool) -> Iterator[Any]:
    """Iterate over the events of an instance from a sequence on."""
    query = f"from={start}&instance={instance}" + ("&follow=true" if follow else "")
    with urllib.request.urlopen(f"{server}/api/repo/{uuid}/events?{query}") as answer:
        for line in answer:
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


def every_size(node: str, at: int) -> dict[int, int]:
    """Return all bodies and their sizes as of a sequence."""
    data = call(f"{node}/listlabels?sizes=true&at={at}")
    return dict(struct.iter_unpack("<QQ", data))


def follow(server: str, uuid: str, instance: str, table: Table, go_on: bool = True) -> None:
    """Bring a table up to date, and keep it so."""
    node = f"{server}/api/node/{uuid}/{instance}"
    for event in events(server, uuid, instance, table.sequence + 1, go_on):
        at = event["sequence"]
        named = sorted({one for labels in event.get("labels", {}).values() for one in labels})
        if event["type"] in VOXELS or not named:
            sizes = every_size(node, at)
            changed = {**dict.fromkeys(table.sizes, 0), **sizes}
        else:
            found = json.loads(call(f"{node}/sizes?at={at}", named))
            changed = dict(zip(named, found, strict=True))
        table.set(at, changed)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("uuid")
    parser.add_argument("instance")
    parser.add_argument("table", type=Path)
    parser.add_argument("--server", default="http://127.0.0.1:8000")
    parser.add_argument("--once", action="store_true", help="end when the table is up to date")
    options = parser.parse_args()
    table = Table(options.table)
    follow(options.server, options.uuid, options.instance, table, go_on=not options.once)


if __name__ == "__main__":
    main()
