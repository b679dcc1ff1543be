"""How many bytes a server keeps, and for what."""

from pathlib import Path
from typing import Any

from dvid_es.engine import Engine
from dvid_es.projections.catalog import Instance
from dvid_es.projections.txn import ReadTxn

ROWS_PER_TRANSACTION = 100_000


def storage_summary(engine: Engine) -> dict[str, Any]:
    """Return bytes of logs, packs and views, by repository and instance; reads every row."""
    folder = engine.streams.folder
    found: dict[str, Any] = {
        "views": {
            "engine": "lmdb",
            "bytes used": engine.store.bytes_used(),
            "bytes of file": _bytes_below(engine.store.folder),
        },
        "repositories": {},
    }
    for stream, repo in engine.repos():
        instances = {
            instance.name: {
                "type": instance.typename,
                "data UUID": instance.data_uuid,
                **_rows_of(engine, stream.root, instance),
            }
            for instance in repo.names.values()
        }
        found["repositories"][stream.root] = {
            "alias": repo.document.alias,
            "events": repo.sequence + 1,
            "log bytes": _bytes_below(folder / stream.root / "log"),
            "pack bytes": _bytes_below(folder / stream.root / "packs"),
            "instances": instances,
        }
    return found


def _bytes_below(folder: Path) -> int:
    """Return the bytes that files take; what vanishes meanwhile does not count."""
    total = 0
    for path in folder.rglob("*"):
        try:
            found = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            # A sparse file, such as LMDB's, takes what its blocks take.
            total += min(found.st_size, found.st_blocks * 512)
    return total


def _rows_of(engine: Engine, root: str, instance: Instance) -> dict[str, int]:
    """Return number and bytes of the rows of an instance, read in many short transactions."""
    start = instance.id.to_bytes(4, "big")
    stop = (instance.id + 1).to_bytes(4, "big")
    rows = size = 0
    following: bytes | None = start
    while following is not None:
        with engine.store.read(root) as txn:
            count, more, following = _count(txn, following, stop)
        rows += count
        size += more
    return {"rows": rows, "row bytes": size}


def _count(txn: ReadTxn, start: bytes, stop: bytes) -> tuple[int, int, bytes | None]:
    rows = size = 0
    for key, value in txn.scan(start, stop):
        if rows == ROWS_PER_TRANSACTION:
            return rows, size, key
        rows += 1
        size += len(key) + len(value)
    return rows, size, None
