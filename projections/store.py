"""The LMDB environment: one file for the projections of all repositories of a server.

Opened once in a process, never across a fork. A commit does not wait for the disk: a crash of the machine
takes the store back to its anchor (see anchor.py), and never tears it; replay does the rest again.
"""

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import lmdb
import numpy as np

from dvid_es.errors import CorruptStore, StorageFull, WritesHalted
from dvid_es.events import Bulk
from dvid_es.ids import PackRef
from dvid_es.projections import anchor
from dvid_es.projections.anchor import Anchors
from dvid_es.projections.catalog import Repo, load
from dvid_es.projections.temporal import cut
from dvid_es.projections.txn import ROOM_BEFORE, ROOM_BEHIND, BulkReader, KeyTable, Pair
from dvid_es.versions import View

MAP_BYTES = 4 << 40
_PROBE_BYTES = 16 << 20
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REPO_NUMBERS = b"\x00\x00\x00\x00"


class LmdbTxn:
    """A read or write transaction scoped to one repository."""

    __slots__ = ("_at", "_bulk", "_cursor", "_put", "_txn", "prefix", "repo")

    def __init__(
        self, txn: lmdb.Transaction, number: int, bulk: BulkReader | None, at: int | None = None
    ) -> None:
        """Scope `txn` to the repository `number`."""
        self._txn = txn
        self._put = txn.put
        self._cursor: lmdb.Cursor | None = None
        self._bulk = bulk
        self._at = at
        self.prefix = number.to_bytes(4, "big")
        self.repo: Repo = None  # type: ignore[assignment]

    def get(self, key: bytes) -> bytes | None:
        """Return the value under exactly this key."""
        found: bytes | None = self._txn.get(self.prefix + key)
        return found

    def seek(self, start: bytes) -> Pair | None:
        """Move to the first row at or after `start` and return it."""
        cursor = self._cursor
        if cursor is None:
            cursor = self._cursor = self._txn.cursor()
        prefix = self.prefix
        if not cursor.set_range(prefix + start):
            return None
        key, value = cursor.item()
        return (key[4:], value) if key.startswith(prefix) else None

    def seek_many(self, keys: Sequence[bytes], suffix: bytes) -> list[Pair | None]:
        """Return of each key the first row that begins with it, at or after key + suffix."""
        cursor = self._cursor
        if cursor is None:
            cursor = self._cursor = self._txn.cursor()
        set_range, item, prefix = cursor.set_range, cursor.item, self.prefix
        found: list[Pair | None] = []
        for key in keys:
            start = prefix + key
            if set_range(start + suffix):
                row, value = item()
                if row.startswith(start):
                    found.append((row[4:], value))
                    continue
            found.append(None)
        return found

    def seek_table(self, keys: KeyTable, suffix: bytes) -> tuple[list[bytes], list[bytes]]:
        """Return of the first row at or after each key + suffix what follows the key, and the value."""
        cursor = self._cursor
        if cursor is None:
            cursor = self._cursor = self._txn.cursor()
        set_range, item = cursor.set_range, cursor.item
        self._complete(keys, suffix)
        rows: list[bytes] = []
        values: list[bytes] = []
        add_row, add_value = rows.append, values.append
        for start in cut(keys):
            if set_range(start):
                row, value = item()
                add_row(row)
                add_value(value)
            else:
                add_row(b"")
                add_value(b"")
        begins = keys[:, :-ROOM_BEHIND]
        joined = b"".join(rows)
        if len(joined) == keys.size:
            # A row that begins with its key is as long as the others: all rows of a key are.
            found = np.frombuffer(joined, np.uint8).reshape(keys.shape)
            if np.array_equal(found[:, :-ROOM_BEHIND], begins):
                tails = np.ascontiguousarray(found[:, -ROOM_BEHIND:])
                if (tails == tails[0]).all():
                    return [tails[0].tobytes()] * len(tails), values
                return cut(tails), values
        tails_of = zip(rows, cut(begins), strict=True)
        return [row.removeprefix(begin) for row, begin in tails_of], values

    def next(self) -> Pair | None:
        """Move on by one row after a `seek` and return it."""
        cursor = self._cursor
        assert cursor is not None, "next() without a seek()"
        return self._item(cursor) if cursor.next() else None

    def _item(self, cursor: lmdb.Cursor) -> Pair | None:
        key, value = cursor.item()
        return (key[4:], value) if key.startswith(self.prefix) else None

    def scan(self, start: bytes, stop: bytes) -> Iterator[Pair]:
        """Iterate over the rows of [start, stop) in order of their keys."""
        with self._txn.cursor() as cursor:
            if not cursor.set_range(self.prefix + start):
                return
            end = self.prefix + stop
            for key, value in cursor:
                if key >= end:
                    return
                yield key[4:], value

    def under(self, starts: Sequence[bytes]) -> tuple[list[Pair], list[int]]:
        """Return the rows whose keys begin with `starts`, and how many belong to each."""
        prefix, width = self.prefix, len(self.prefix)
        found: list[Pair] = []
        ends = [0]
        with self._txn.cursor() as cursor:
            set_range = cursor.set_range
            for start in starts:
                full = prefix + start
                if set_range(full):
                    for key, value in cursor:
                        if not key.startswith(full):
                            break
                        found.append((key[width:], value))
                ends.append(len(found))
        return found, [stop - begin for begin, stop in pairwise(ends)]

    def view(self, version: int) -> View:
        """Return what a read at `version` sees in this state."""
        return self.repo.graph.view(version, self._at)

    def limit(self, sequence: int) -> None:
        """Show the state just after the event at `sequence` from now on."""
        self._at = sequence

    @property
    def packs(self) -> BulkReader | None:
        """Where bulk values come from: one object for as long as the repository is open."""
        return self._bulk

    def bulk(self, value: Bulk) -> bytes:
        """Return the bytes of a bulk value."""
        if isinstance(value, PackRef):
            assert self._bulk is not None, "a transaction without packs"
            return self._bulk.get(value)
        return value

    def bulk_many(self, values: Sequence[Bulk]) -> list[bytes]:
        """Return the bytes of several bulk values."""
        refs = [value for value in values if isinstance(value, PackRef)]
        if not refs:
            return list(values)  # type: ignore[arg-type]
        assert self._bulk is not None, "a transaction without packs"
        fetched = iter(self._bulk.get_many(refs))
        return [next(fetched) if isinstance(value, PackRef) else value for value in values]

    def put(self, key: bytes, value: bytes) -> None:
        """Set one row."""
        self._put(self.prefix + key, value)

    def put_many(self, rows: Iterable[Pair], suffix: bytes = b"") -> None:
        """Set many rows, `suffix` added to each key; sorted ones are fastest."""
        prefix = self.prefix
        with self._txn.cursor() as cursor:
            cursor.putmulti([(prefix + key + suffix, value) for key, value in rows])

    def put_table(self, keys: KeyTable, suffix: bytes, values: Sequence[bytes]) -> None:
        """Set many rows, `suffix` added to each key; sorted ones are fastest."""
        with self._txn.cursor() as cursor:
            self._complete(keys, suffix)
            cursor.putmulti(zip(cut(keys), values, strict=True))

    def _complete(self, keys: KeyTable, suffix: bytes) -> None:
        keys[:, :ROOM_BEFORE] = np.frombuffer(self.prefix, np.uint8)
        keys[:, -ROOM_BEHIND:] = np.frombuffer(suffix, np.uint8)

    def delete(self, key: bytes) -> None:
        """Remove one row, if it is there."""
        self._txn.delete(self.prefix + key)


class Store:
    """The open environment."""

    def __init__(
        self,
        folder: Path,
        *,
        map_bytes: int = MAP_BYTES,
        read_only: bool = False,
        scratch: bool = False,
    ) -> None:
        """Open or make the environment in `folder`.

        Args:
            folder: of this environment alone.
            map_bytes: largest size that the file may ever reach.
            read_only: for looking and copying, also while a server writes; nothing is made.
            scratch: no commit waits for the disk, so a crash leaves rubbish: for a store that is
                thrown away unless `sync` was called at its end.

        Raises:
            CorruptStore: LMDB cannot open it; set the folder aside and rebuild.
            StorageFull: no space to begin with.
            WritesHalted: the operating system failed, or another process has it open.
        """
        if not read_only:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self._broken = ""
        self._anchors: Anchors | None = None
        try:
            anchored = not (read_only or scratch) and self._settle(folder, map_bytes)
            if read_only and anchor.is_torn(folder):
                raise CorruptStore(f"{folder}: the machine went down; start the server once before")
            if not (read_only or anchored):
                anchor.forget(folder)
            self._env = lmdb.open(
                str(folder),
                map_size=map_bytes,
                metasync=False,
                sync=not (scratch or anchored),
                readonly=read_only,
                create=not read_only,
                mode=0o600,
                max_readers=1024,
                max_spare_txns=16,
            )
            with self._env.begin() as txn:
                self._numbers = self._read_numbers(txn)
            if anchored:
                self._anchors = self._anchor()
        except lmdb.Error as problem:
            raise CorruptStore(f"{folder}: {problem}; rebuild it: dvid-es rebuild") from problem
        except OSError as problem:
            kind = StorageFull if problem.errno in _NO_SPACE else WritesHalted
            raise kind(f"the projections in {folder} cannot be opened: {problem}") from problem

    @staticmethod
    def _settle(folder: Path, map_bytes: int) -> bool:
        """Bring a store, made if need be, into a state to go on from; say if it can be anchored."""
        if (folder / anchor.DATA).exists():
            anchor.settle(folder)
        else:
            anchor.forget(folder)
            lmdb.open(str(folder), map_size=map_bytes, mode=0o600).close()
        return anchor.is_supported(folder)

    def _anchor(self) -> Anchors:
        try:
            return Anchors(self.folder, self._env.begin)
        except BaseException:
            self._env.close()
            raise

    def close(self) -> None:
        """Close the environment; no transaction may be open."""
        if self._anchors is not None:
            self._anchors.close()
        self._env.close()

    @property
    def roots(self) -> list[str]:
        """Root UUIDs of the repositories with rows here."""
        return list(self._numbers)

    @contextmanager
    def read(self, root: str, bulk: BulkReader | None = None) -> Iterator[LmdbTxn]:
        """Open a read transaction of one repository, with its documents loaded afresh."""
        with self._env.begin() as txn:
            scoped = LmdbTxn(txn, self._numbers.get(root, 0xFFFFFFFF), bulk)
            repo = load(scoped)
            if repo is not None:
                scoped.repo = repo
            yield scoped

    def begin_read(self, repo: Repo, bulk: BulkReader | None, at: int | None = None) -> LmdbTxn:
        """Open a short read transaction with known documents; `finish_read` must follow."""
        scoped = LmdbTxn(self._env.begin(), self._numbers[repo.root], bulk, at)
        scoped.repo = repo
        return scoped

    def finish_read(self, txn: LmdbTxn) -> None:
        """End a transaction of `begin_read`."""
        txn._txn.abort()

    @contextmanager
    def write(self) -> Iterator["Batch"]:
        """Open the one write transaction; it commits at the end, or aborts on an exception.

        Raises:
            StorageFull: the disk or the map is full; nothing of the batch was stored.
            WritesHalted: LMDB failed otherwise, now or earlier; nothing of the batch was stored.
        """
        broken = self._broken or (self._anchors.failed if self._anchors else "")
        if broken:
            raise WritesHalted(broken)
        batch = Batch(self, self._env.begin(write=True))
        try:
            yield batch
            batch.commit()
        except lmdb.Error as problem:
            batch.abort()
            raise self._failure(problem) from problem
        except BaseException:
            batch.abort()
            raise

    def _failure(self, problem: lmdb.Error) -> StorageFull | WritesHalted:
        """Return the error for a write that LMDB could not do.

        A write cut short by a full disk and a sync that failed are the same error in LMDB. The first
        may be tried again; after the second nobody knows which pages the disk holds.
        """
        text = str(problem)
        full = isinstance(problem, lmdb.MapFullError) or any(
            os.strerror(number) in text for number in _NO_SPACE
        )
        if full or (os.strerror(errno.EIO) in text and not self._has_room()):
            return StorageFull(f"no space for the projections: {problem}")
        self._broken = f"the projections in {self.folder} cannot be written: {problem}"
        return WritesHalted(self._broken)

    def _has_room(self) -> bool:
        """Try whether a file here may be longer than the store's, and give the space back."""
        probe = self.folder / "probe"
        try:
            with probe.open("wb") as file:
                size = (self.folder / "data.mdb").stat().st_size
                file.seek(size)
                for _ in range(_PROBE_BYTES >> 20):
                    file.write(bytes(1 << 20))
                file.flush()
                os.fsync(file.fileno())
        except OSError as failed:
            return failed.errno not in _NO_SPACE
        finally:
            probe.unlink(missing_ok=True)
        return True

    def drop(self, root: str, rows_per_transaction: int = 100_000) -> None:
        """Remove all rows of a repository; its number stays. A crash in between leaves a part."""
        number = self._numbers.get(root)
        if number is None:
            return
        prefix = number.to_bytes(4, "big")
        more = True
        while more:
            txn = self._env.begin(write=True)
            with txn.cursor() as cursor:
                more = cursor.set_range(prefix)
                for _ in range(rows_per_transaction):
                    if not more or not cursor.key().startswith(prefix):
                        more = False
                        break
                    more = cursor.delete()
            self._commit(txn)

    def _commit(self, txn: lmdb.Transaction) -> None:
        if self._anchors is None:
            txn.commit()
            return
        with self._anchors.commit_lock:
            txn.commit()
        self._anchors.committed(self._env.info()["last_pgno"])

    def sync(self) -> None:
        """Make all committed transactions durable, meta page included.

        Raises:
            WritesHalted: it failed, now or earlier.
        """
        if self._anchors is None:
            self._env.sync(True)
            return
        try:
            self._anchors.move()
        except OSError as problem:
            raise WritesHalted(self._anchors.failed) from problem

    def copy_to(self, folder: Path) -> None:
        """Write a compact copy of the last committed state into an empty folder.

        Raises:
            StorageFull: no space for it; a part of the copy may be there.
            CorruptStore: LMDB cannot read its pages.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._env.copy(str(folder), compact=True)
            (folder / "data.mdb").chmod(0o600)
        except lmdb.DiskError as problem:
            raise StorageFull(f"no space to copy the projections: {problem}") from problem
        except lmdb.Error as problem:
            raise CorruptStore(f"the projections cannot be copied: {problem}") from problem

    def open_readers(self) -> int:
        """Return how many read transactions are open, in all processes."""
        lines = self._env.readers().splitlines()[1:]
        anchored = self._anchors is not None
        return sum(not line.rstrip().endswith("-") for line in lines) - anchored

    def bytes_used(self) -> int:
        """Return how many bytes of the file hold pages in use."""
        info, stat = self._env.info(), self._env.stat()
        return int((info["last_pgno"] + 1) * stat["psize"])

    @staticmethod
    def _read_numbers(txn: lmdb.Transaction) -> dict[str, int]:
        found: dict[str, int] = {}
        with txn.cursor() as cursor:
            if cursor.set_range(_REPO_NUMBERS):
                for key, value in cursor:
                    if not key.startswith(_REPO_NUMBERS):
                        break
                    found[key[4:].decode()] = int.from_bytes(value, "big")
        return found


def examine(folder: Path) -> int:
    """Read every row of the environment in `folder` and return their number.

    To be called in a process of its own: on damaged pages LMDB may end it by a signal.

    Raises:
        CorruptStore: LMDB finds damage.
    """
    count = 0
    try:
        with (
            lmdb.open(str(folder), map_size=MAP_BYTES, readonly=True, create=False) as env,
            env.begin(buffers=True) as txn,
            txn.cursor() as cursor,
        ):
            for key, value in cursor:
                # Both ends of a value are touched: a long one lies on pages of its own.
                count += 1 if len(key) and (not len(value) or value[0] + value[-1] >= 0) else 0
            if count != txn.stat()["entries"]:
                raise CorruptStore(f"{folder}: {count} rows of {txn.stat()['entries']} are there")
    except lmdb.Error as problem:
        raise CorruptStore(f"{folder}: {problem}") from problem
    return count


class Batch:
    """The open write transaction, of which each repository has its own scope."""

    def __init__(self, store: Store, txn: lmdb.Transaction) -> None:
        """Wrap the environment's write transaction."""
        self._store = store
        self._txn = txn
        self._open = True
        self._numbers = dict(store._numbers)

    def scope(self, root: str, repo: Repo | None, bulk: BulkReader | None) -> LmdbTxn:
        """Return the transaction of one repository, which is given a number when it is new."""
        number = self._numbers.get(root)
        if number is None:
            number = self._numbers[root] = max(self._numbers.values(), default=0) + 1
            self._txn.put(_REPO_NUMBERS + root.encode(), number.to_bytes(4, "big"))
        scoped = LmdbTxn(self._txn, number, bulk)
        if repo is None:
            repo = load(scoped)
        if repo is not None:
            scoped.repo = repo
        return scoped

    def commit(self) -> None:
        """Commit, once."""
        if self._open:
            self._open = False
            self._store._commit(self._txn)
            self._store._numbers = self._numbers

    def abort(self) -> None:
        """Undo everything that is not committed."""
        if self._open:
            self._open = False
            self._txn.abort()
