import errno
import fcntl

import pytest

from dvid_es.logs.disk import Disk, create, failure, lock_folder, read_all, read_into, write_all


class SlowDisk(Disk):
    """Writes and reads few bytes at a time, as an operating system may."""

    def pwritev(self, fd, buffers, offset):
        return super().pwritev(fd, [b"".join(buffers)[:7]], offset)

    def pread(self, fd, length, offset):
        return super().pread(fd, min(length, 5), offset)

    def pread_into(self, fd, buffer, offset):
        return super().pread_into(fd, buffer[:5], offset)


BUFFERS = [b"", b"abc", b"", b"defghijklmnopqrstuvwxyz", memoryview(b"0123456789" * 3), b""]
WHOLE = b"".join(BUFFERS)


@pytest.mark.parametrize("disk", [Disk(), SlowDisk()])
@pytest.mark.parametrize("times", [1, 100, 600])
def test_all_buffers_are_written_and_read_whatever_a_call_does(tmp_path, disk, times):
    fd = create(disk, tmp_path / "file", [b"head"])
    assert write_all(disk, fd, BUFFERS * times, 4) == 4 + len(WHOLE) * times
    assert write_all(disk, fd, [], 4) == 4
    assert write_all(disk, fd, [b"", b""], 4) == 4
    assert read_all(disk, fd, 4 + len(WHOLE) * times + 99, 0) == b"head" + WHOLE * times
    assert read_all(disk, fd, 10, 4) == WHOLE[:10]
    buffer = bytearray(len(WHOLE) * times + 99)
    assert read_into(disk, fd, memoryview(buffer), 4) == len(WHOLE) * times
    assert buffer == WHOLE * times + bytes(99)
    disk.close(fd)


def test_a_disk_that_writes_nothing_is_full(tmp_path):
    class StuckDisk(Disk):
        def pwritev(self, fd, buffers, offset):
            return 0

    with pytest.raises(OSError, match="nothing was written") as caught:
        create(StuckDisk(), tmp_path / "file", [b"head"])
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_fails_for_another_reason_says_so(tmp_path, monkeypatch):
    def no_locks(fd, how):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(OSError, match="no locks"):
        lock_folder(Disk(), tmp_path)


def test_a_failure_is_named_after_what_can_be_done_about_it():
    full = failure(OSError(errno.EDQUOT, "quota"), "it")
    broken = failure(OSError(errno.EIO, "broken"), "it")
    assert type(full).__name__ == "StorageFull"
    assert type(broken).__name__ == "WritesHalted"
