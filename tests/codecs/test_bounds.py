import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect and its signal")


def run(argument):
    return subprocess.run(
        [sys.executable, "-m", "tests.codecs.guarded", argument],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_reading_one_byte_too_far_is_noticed():
    assert run("overrun").returncode == -signal.SIGSEGV


def test_hostile_bytes_are_never_read_out_of_bounds():
    ended = run("400")
    assert ended.returncode == 0, ended.stderr
    total, refused = (int(word) for word in ended.stdout.split() if word.isdigit())
    assert total > 15_000
    assert refused > total // 3
    assert refused < total
