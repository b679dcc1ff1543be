"""The operating system fails below a running server: what is answered, and what is there afterwards."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dvid_es.errors import StorageFull
from dvid_es.logs.disk import DISK
from dvid_es.logs.filelog import FileLog
from dvid_es.projections.store import Store
from dvid_es.settings import Settings
from tests.conftest import Live, running

VALUE = b"v" * 2000
"""Long enough for the packs."""


@contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch, name: str, code: int, folder: str = ""
) -> Iterator[list[int]]:
    """Fail each call of one operation of the disk, below folders of a name; the list counts them."""
    real: Callable[..., Any] = getattr(DISK, name)
    calls: list[int] = []

    def fail(fd: int, *rest: Any) -> Any:
        target = Path(f"/proc/self/fd/{fd}").readlink()
        if folder and folder not in target.parts:
            return real(fd, *rest)
        calls.append(1)
        raise OSError(code, "planted")

    with monkeypatch.context() as patch:
        patch.setattr(DISK, name, fail)
        yield calls


def keyvalue(live: Live) -> str:
    path = live.new_instance(live.new_repo(), "keyvalue", "kv")
    live.ok("POST", f"{path}/key/before", VALUE)
    return path


def test_after_a_failed_sync_of_the_log_writes_stay_halted_and_reads_go_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_failed_sync(settings, monkeypatch)


def test_the_recipe_catches_a_log_that_tries_a_failed_sync_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def try_again(self: FileLog) -> None:
        try:
            self._disk.sync_data(self._fd)
        except OSError as problem:
            raise RuntimeError("failed, but maybe next time") from problem
        self._synced = self.end

    from dvid_es.writer import Writer

    monkeypatch.setattr(FileLog, "sync", try_again)
    monkeypatch.setattr(Writer, "halted", property(lambda self: {}))
    made_durable = Writer._make_durable

    def forgiving(self: Writer, pending: Any) -> None:
        self._halted.clear()
        try:
            made_durable(self, pending)
        finally:
            self._halted.clear()

    monkeypatch.setattr(Writer, "_make_durable", forgiving)
    with pytest.raises(AssertionError):
        check_failed_sync(settings, monkeypatch)


def check_failed_sync(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(settings) as live:
        path = keyvalue(live)
        with failing(monkeypatch, "sync_data", errno.EIO, "log") as calls:
            answer = live.call("POST", f"{path}/key/during", VALUE)
            assert answer.status == 500
            assert "Writing has stopped" in answer.text
        assert len(calls) == 1
        for _ in range(3):
            later = live.call("POST", f"{path}/key/after", VALUE)
            assert later.status == 500
            assert "Writing has stopped" in later.text
        assert live.ok("GET", f"{path}/key/before").body == VALUE
        assert live.call("GET", f"{path}/key/during").status == 404
        assert live.call("GET", f"{path}/key/after").status == 404
    assert not (settings.data / "clean-stop").exists()
    with running(settings) as live:
        # The write without an answer is wholly there or wholly absent; those refused are absent.
        assert live.ok("GET", f"{path}/key/before").body == VALUE
        during = live.call("GET", f"{path}/key/during")
        assert (during.status, during.body) in ((200, VALUE), (404, during.body))
        assert live.call("GET", f"{path}/key/after").status == 404
        live.ok("POST", f"{path}/key/after", VALUE)


@pytest.mark.parametrize("folder", ["log", "packs"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_in_log_or_packs_is_507_until_it_returns(
    live: Live, monkeypatch: pytest.MonkeyPatch, folder: str, code: int
) -> None:
    path = keyvalue(live)
    with failing(monkeypatch, "pwritev", code, folder) as calls:
        for number in range(3):
            answer = live.call("POST", f"{path}/key/{number}", b"%d" % number + VALUE)
            assert answer.status == 507, answer
        assert live.ok("GET", f"{path}/key/before").body == VALUE
    assert len(calls) >= 3
    assert live.ok("GET", f"{path}/keys").json() == ["before"]
    for number in range(3):
        live.ok("POST", f"{path}/key/{number}", b"%d" % number + VALUE)
    assert live.ok("GET", f"{path}/keys").json() == ["0", "1", "2", "before"]


def test_a_failed_write_of_the_log_halts_only_its_repository(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = keyvalue(live), keyvalue(live)
    root = first.split("/")[3]
    with failing(monkeypatch, "pwritev", errno.EIO, root):
        assert live.call("POST", f"{first}/key/a", b"small").status == 500
        live.ok("POST", f"{second}/key/a", VALUE)
    assert live.call("POST", f"{first}/key/a", b"small").status == 500
    live.ok("POST", f"{second}/key/b", VALUE)
    assert live.ok("GET", f"{first}/key/before").body == VALUE


def test_an_event_that_cannot_be_applied_halts_its_repository_and_reads_go_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvid_es.projections.projector import Projector

    with running(settings) as live:
        first, second = keyvalue(live), keyvalue(live)
        live.ok("POST", f"{first}/key/poison", VALUE)
        live.ok("POST", f"{first}/key/after", VALUE)
        root = first.split("/")[3]
        poisoned = live.engine.streams.get(root).log.end - 2
    shutil.rmtree(settings.data / "projections")
    apply_all = Projector.apply_all

    def buggy(self: Projector, txn: Any, records: Any) -> int:
        if any("poison" in getattr(record.event, "keys", ()) for record in records):
            raise ZeroDivisionError("a fold with a bug")
        return apply_all(self, txn, records)

    with monkeypatch.context() as patch:
        patch.setattr(Projector, "apply_all", buggy)
        with running(settings) as live:
            assert live.ok("GET", f"{first}/keys").json() == ["before"]
            refused = live.call("POST", f"{first}/key/more", VALUE)
            assert refused.status == 500
            assert f"offset {poisoned}" in refused.text
            live.ok("POST", f"{second}/key/more", VALUE)
    with running(settings) as live:
        assert live.ok("GET", f"{first}/keys").json() == ["after", "before", "poison"]
        live.ok("POST", f"{first}/key/more", VALUE)


def test_a_start_on_a_full_disk_serves_reads_and_writes_again_when_there_is_space(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(settings) as live:
        path = keyvalue(live)
    with running(settings) as live, monkeypatch.context() as patch:
        # The log takes the write, the projections do not.
        patch.setattr(Store, "write", full(Store.write))
        assert live.call("POST", f"{path}/key/late", VALUE).status == 507
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", full(Store.write))
        with running(settings) as live:
            assert live.ok("GET", f"{path}/key/before").body == VALUE
            assert live.call("POST", f"{path}/key/more", VALUE).status == 507
            assert live.ok("GET", f"{path}/keys").json() == ["before"]
            patch.undo()
            live.ok("POST", f"{path}/key/more", VALUE)
            assert live.ok("GET", f"{path}/keys").json() == ["before", "late", "more"]


def full(write: Callable[..., Any]) -> Callable[..., Any]:
    @contextmanager
    def fails_to_commit(self: Store) -> Iterator[Any]:
        with write(self) as batch:
            commit = batch.commit

            def no_space() -> None:
                raise StorageFull("planted")

            batch.commit = no_space
            try:
                yield batch
                batch.commit()
            except BaseException:
                batch.abort()
                raise
            finally:
                batch.commit = commit

    return fails_to_commit
