from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvid_es.errors import CorruptStore, WritesHalted
from dvid_es.projections import anchor
from dvid_es.projections.anchor import Anchors
from dvid_es.projections.store import Store

ROOT = "a" * 32
SECTOR = 512
NUMBER = b"\0\0\0\0\1"
"""Key of the number of the last commit."""

Rows = dict[bytes, bytes]


class Run:
    """A store that is written to at random, and what a loss of power may leave of it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.durable: dict[str, bytes] = {}
        self.states: list[Rows] = [{}]
        self.anchored = 0
        self.store = Store(folder)

    def synced(self, name: str) -> None:
        self.durable[name] = (self.folder / name).read_bytes()

    def commit(self) -> None:
        rows = dict(self.states[-1])
        with self.store.write() as batch:
            txn = batch.scope(ROOT, None, None)
            for _ in range(self.chance.randrange(1, 30)):
                key = b"\0\0\0\1\x50%04d" % self.chance.randrange(400)
                if key in rows and self.chance.random() < 0.4:
                    txn.delete(key)
                    del rows[key]
                else:
                    size = self.chance.choice((5, 60, 300, 9000))
                    rows[key] = self.chance.randbytes(size)
                    txn.put(key, rows[key])
            rows[NUMBER] = b"%d" % len(self.states)
            txn.put(NUMBER, rows[NUMBER])
        self.states.append(rows)

    def move(self) -> None:
        number = len(self.states) - 1
        self.store.sync()
        self.anchored = number

    def images(self, count: int, scratch: Path) -> Iterator[Path]:
        """Make folders in which any sector may be the one last synced, or one written since."""
        now = {name: (self.folder / name).read_bytes() for name in self.durable}
        for share in [0.0, 1.0, *(self.chance.random() for _ in range(count - 2))]:
            image = scratch / "image"
            shutil.rmtree(image, ignore_errors=True)
            image.mkdir(parents=True)
            for name, data in now.items():
                old = self.durable[name].ljust(len(data), b"\0")
                parts = [
                    (data if self.chance.random() < share else old)[at : at + SECTOR]
                    for at in range(0, len(data), SECTOR)
                ]
                (image / name).write_bytes(b"".join(parts))
            yield image

    def problem_of(self, image: Path) -> str:
        """Say what is wrong with what a start makes of an image, and with going on from there."""
        try:
            store = Store(image)
        except Exception as error:
            return f"it does not open: {error!r}"
        try:
            rows = rows_of(store)
            number = int(rows.get(NUMBER, b"0"))
            if number < self.anchored or rows != self.states[number]:
                return f"it is not as it was after commit {number} (anchored: {self.anchored})"
            with store.write() as batch:
                txn = batch.scope(ROOT, None, None)
                for place in range(60):
                    rows[b"\0\0\0\2\x50%04d" % place] = b"more" * 100
                    txn.put(b"\0\0\0\2\x50%04d" % place, b"more" * 100)
            return "" if rows_of(store) == rows else "what was written next went wrong"
        except Exception as error:
            return f"it cannot be read: {error!r}"
        finally:
            store.close()


def rows_of(store: Store) -> Rows:
    with store.read(ROOT) as txn:
        return dict(txn.scan(b"", b"\xff" * 9))


@pytest.fixture(autouse=True)
def only_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchor, "INTERVAL_S", 3600.0)


def find_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, commits: int = 40
) -> list[str]:
    """Return what was wrong with images of a loss of power at all sorts of moments."""
    run: list[Run] = []
    problems: list[str] = []
    real: Callable[[int], None] = anchor._sync
    recording = [True]

    def look() -> None:
        recording[0] = False
        for image in run[0].images(4, tmp_path):
            problem = run[0].problem_of(image)
            if problem:
                problems.append(problem)
        recording[0] = True

    def sync(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        inside = run and recording[0] and path.parent == run[0].folder
        if inside and run[0].durable:
            look()
        real(fd)
        if inside:
            run[0].synced(path.name)

    monkeypatch.setattr(anchor, "_sync", sync)
    made = Run.__new__(Run)
    run.append(made)
    made.folder, made.durable = tmp_path / "live", {}
    Run.__init__(made, tmp_path / "live", seed)
    made.durable = {name: (made.folder / name).read_bytes() for name in (anchor.DATA, anchor.FILE)}
    for _ in range(commits):
        made.commit()
        if made.chance.random() < 0.15:
            made.move()
        if made.chance.random() < 0.2:
            look()
    recording[0] = False
    made.store.close()
    return problems


@pytest.mark.parametrize("seed", range(3))
def test_a_loss_of_power_takes_the_store_back_to_its_anchor_and_never_tears_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    assert find_losses(tmp_path, monkeypatch, seed) == []


def used_again(patch: pytest.MonkeyPatch) -> None:
    move = Anchors.move

    def let_go(self: Anchors) -> None:
        move(self)
        if self._held is not None:
            self._held.abort()
            self._held = None

    patch.setattr(Anchors, "move", let_go)


def slot_before_pages(patch: pytest.MonkeyPatch) -> None:
    def move(self: Anchors) -> None:
        with self.commit_lock:
            reader = self._begin()
            meta = anchor._meta_of(self._fds[0], reader.id())
        assert meta is not None
        self._write(meta, self._identity)
        held, self._held = self._held, reader
        if held is not None:
            held.abort()
        anchor._sync(self._fds[0])

    patch.setattr(Anchors, "move", move)


def start_that_trusts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(anchor, "settle", lambda folder: False)


def no_sync_of_the_slot(patch: pytest.MonkeyPatch) -> None:
    def write(self: Anchors, meta: bytes, known_as: bytes) -> None:
        real = anchor._sync
        patch.setattr(anchor, "_sync", lambda fd: None)
        try:
            real_write(self, meta, known_as)
        finally:
            patch.setattr(anchor, "_sync", real)

    real_write = Anchors._write
    patch.setattr(Anchors, "_write", write)


PLANTED = {
    plant.__name__: plant
    for plant in (used_again, slot_before_pages, start_that_trusts, no_sync_of_the_slot)
}
FOUND = 3
_CHILD = """
import sys
from pathlib import Path
import pytest
from tests.projections.test_anchor import FOUND, PLANTED, find_losses
with pytest.MonkeyPatch.context() as patch:
    patch.setattr("dvid_es.projections.anchor.INTERVAL_S", 3600.0)
    PLANTED[sys.argv[1]](patch)
    for seed in range(4):
        if find_losses(Path(sys.argv[2]) / str(seed), patch, seed):
            sys.exit(FOUND)
"""


@pytest.mark.parametrize("bug", PLANTED)
def test_the_recipe_catches_a_planted_bug(tmp_path: Path, bug: str) -> None:
    # In a process of its own: LMDB may answer torn pages with a signal.
    command = [sys.executable, "-c", _CHILD, bug, str(tmp_path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == FOUND or done.returncode < 0, done.stderr


def test_commits_of_a_killed_process_are_there_while_the_system_runs(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from dvid_es.projections.store import Store\n"
        "store = Store(Path(sys.argv[1]))\n"
        "for number in range(20):\n"
        "    with store.write() as batch:\n"
        "        batch.scope('a' * 32, None, None).put(b'\\0\\0\\0\\1\\x50', b'%d' % number)\n"
        "os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "store")], check=False)
    assert done.returncode == 9
    assert not anchor.is_torn(tmp_path / "store")
    store = Store(tmp_path / "store")
    assert rows_of(store) == {b"\0\0\0\1\x50": b"19"}
    store.close()


def test_commits_that_another_system_made_are_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "store", 1)
    run.commit()
    run.move()
    run.commit()
    run.store.close()
    (tmp_path / "boot").write_text("another one")
    monkeypatch.setattr(anchor, "_BOOT_ID", tmp_path / "boot")
    assert anchor.is_torn(run.folder)
    with pytest.raises(CorruptStore, match="start the server once"):
        Store(run.folder, read_only=True)
    store = Store(run.folder)
    assert rows_of(store) == run.states[1]
    store.close()


def test_where_nobody_can_tell_which_system_it_was_nothing_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anchor, "_BOOT_ID", tmp_path / "nowhere")
    run = Run(tmp_path / "store", 1)
    run.move()
    run.commit()
    run.store.close()
    store = Store(run.folder)
    assert rows_of(store) == {}
    store.close()


def test_a_store_that_was_closed_in_order_is_whole_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "store", 1)
    run.commit()
    run.move()
    run.store.close()
    monkeypatch.setattr(anchor, "_BOOT_ID", tmp_path / "nowhere")
    shutil.copytree(run.folder, tmp_path / "copy")
    assert not anchor.settle(tmp_path / "copy")
    store = Store(tmp_path / "copy", read_only=True)
    assert rows_of(store) == run.states[1]
    store.close()


def test_after_a_failed_sync_nothing_is_written_and_the_next_start_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "store", 1)
    run.commit()
    run.move()
    run.commit()
    real = anchor._sync
    data = run.store._anchors._fds[0] if run.store._anchors else -1

    def fail(fd: int) -> None:
        if fd == data:
            raise OSError(5, "planted")
        real(fd)

    monkeypatch.setattr(anchor, "_sync", fail)
    with pytest.raises(WritesHalted, match="planted"):
        run.store.sync()
    monkeypatch.setattr(anchor, "_sync", real)
    with pytest.raises(WritesHalted, match="planted"):
        run.store.sync()
    with pytest.raises(WritesHalted, match="planted"), run.store.write():
        pass
    run.store.close()
    store = Store(run.folder)
    assert rows_of(store) == run.states[1]
    store.close()


def test_a_store_that_another_process_has_open_is_not_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "store", 1)
    run.move()
    run.commit()
    run.store.close()
    code = (
        "import sys, lmdb\n"
        "env = lmdb.open(sys.argv[1], readonly=True, create=False)\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(run.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"open\n"
        monkeypatch.setattr(anchor, "_BOOT_ID", tmp_path / "nowhere")
        assert not anchor.is_torn(run.folder)
        with pytest.raises(WritesHalted, match="open in another process"):
            Store(run.folder)
        reader.communicate(b"")
    assert anchor.is_torn(run.folder)


def test_a_damaged_anchor_is_no_anchor(tmp_path: Path) -> None:
    run = Run(tmp_path / "store", 1)
    run.commit()
    run.store.close()
    (run.folder / anchor.FILE).write_bytes(b"\1" * 2048)
    with pytest.raises(CorruptStore, match="damaged"):
        Store(run.folder)


def test_an_anchor_moves_by_itself_after_some_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anchor, "COMMITS_MAX", 3)
    run = Run(tmp_path / "store", 1)
    for _ in range(3):
        run.commit()
    anchors = run.store._anchors
    assert anchors is not None
    with anchors._changed:
        assert anchors._changed.wait_for(lambda: anchors._turn >= 2, 60)
    run.store.close()
    shutil.copytree(run.folder, tmp_path / "copy")
    store = Store(tmp_path / "copy")
    assert rows_of(store) == run.states[3]
    store.close()


def test_a_commit_waits_when_far_too_much_is_not_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anchor, "PAGES_MAX", 1)
    monkeypatch.setattr(anchor, "PAGES_WAIT", 20)
    run = Run(tmp_path / "store", 1)
    anchors = run.store._anchors
    assert anchors is not None
    for _ in range(40):
        run.commit()
        assert anchors._page - anchors._anchored_page <= 20
    run.store.close()


def test_a_store_of_an_unknown_form_waits_for_the_disk_with_each_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anchor, "_VERSION", 77)
    run = Run(tmp_path / "store", 1)
    run.commit()
    assert run.store._anchors is None
    assert run.store._env.flags()["sync"]
    assert not (run.folder / anchor.FILE).exists()
    run.store.close()


def test_the_anchor_costs_no_reader_that_is_counted(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.open_readers() == 0
    with store.read(ROOT):
        assert store.open_readers() == 1
    store.close()


def test_the_identity_of_a_file_is_its_own(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"")
    fds = [os.open(tmp_path / name, os.O_RDONLY) for name in "ab"]
    first, second = map(anchor.identity, fds)
    assert first == anchor.identity(fds[0])
    assert first != second
    for fd in fds:
        os.close(fd)
