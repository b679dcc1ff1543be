import os
import socket
import sys
import time
from pathlib import Path

import pytest

from dvid_es.bench import process

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def put(proc: Path, pid: int, user: int, system: int, children: str = "", fd: str = "") -> None:
    folder = proc / str(pid)
    (folder / "task" / str(pid)).mkdir(parents=True)
    (folder / "fd").mkdir()
    (folder / "stat").write_text(f"{pid} (a ) (b) S 1 2 3 4 5 6 7 8 9 10 {user} {system} 0 0")
    (folder / "statm").write_text("1000 25 3 4 5 6 7")
    (folder / "task" / str(pid) / "children").write_text(children)
    if fd:
        (folder / "fd" / "3").symlink_to(fd)


@pytest.fixture
def proc(tmp_path):
    put(tmp_path, 200, 300, 100, "201 202", "socket:[77]")
    put(tmp_path, 201, 50, 0, "203", "socket:[77]")
    put(tmp_path, 202, 0, 0)
    put(tmp_path, 203, 25, 25)
    put(tmp_path, 9, 1000, 1000, "", "socket:[78]")
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode\n"
        "   0: 0100007F:1F40 00000000:0000 0A 00:00 00:00 00 0 0 77 1\n"
        "   1: 0100007F:1F40 0100007F:9999 01 00:00 00:00 00 0 0 78 1\n"
    )
    return tmp_path


def test_cpu_time_is_that_of_a_process_and_all_that_it_started(proc):
    assert process.cpu_seconds(200, proc) == 500 / os.sysconf("SC_CLK_TCK")
    assert process.descendants(200, proc) == [201, 203, 202]


def test_memory_is_that_of_a_process_and_all_that_it_started(proc):
    assert process.memory_bytes(200, proc) == 4 * 25 * os.sysconf("SC_PAGE_SIZE")


def test_a_process_that_is_not_there_has_no_figures(proc):
    assert process.cpu_seconds(4, proc) is None
    assert process.memory_bytes(4, proc) is None


def test_the_listener_is_the_first_process_with_the_listening_socket(proc):
    assert process.find_listener("127.0.0.1", 8000, proc) == 200
    assert process.find_listener("127.0.0.1", 8001, proc) is None
    assert process.find_listener("192.0.2.1", 8000, proc) is None


def test_without_proc_nothing_is_known(tmp_path):
    assert process.find_listener("127.0.0.1", 8000, tmp_path) is None


@on_linux
def test_this_process_is_found_by_its_port_and_uses_time():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert process.find_listener("127.0.0.1", listener.getsockname()[1]) == os.getpid()
    before, end = process.cpu_seconds(os.getpid()), time.process_time() + 0.05
    while time.process_time() < end:
        pass
    after = process.cpu_seconds(os.getpid())
    assert before is not None
    assert after is not None
    assert after - before >= 0.02
