from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "docs" / "examples" / "segmentation.py"
REAL = ROOT.parent / "shared" / "data" / "connectomics.npy.ckl.gz"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def play(tmp_path: Path, *arguments: str) -> list[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    places = ["--data", str(tmp_path / "data"), "--port", str(free_port())]
    done = subprocess.run(
        [*command, *places], cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if line.endswith("voxels as numpy says")]


def test_every_voxel_of_a_synthetic_segmentation_reads_as_numpy_says(tmp_path: Path) -> None:
    # After ingest, after edits and kill -9, after a rebuild, and after a start from a snapshot.
    lines = play(tmp_path, "--side", "192", "--edits", "60")
    assert len(lines) == 4
    assert lines[0].endswith(f"{2 * 192**3:,} voxels as numpy says")
    assert lines[3].endswith(f"{4 * 192**3:,} voxels as numpy says")


@pytest.mark.skipif(not REAL.exists(), reason="the real segmentation is not beside this checkout")
def test_every_voxel_of_a_real_segmentation_reads_as_numpy_says(tmp_path: Path) -> None:
    pytest.importorskip("crackle", reason="crackle-codec reads the file")
    lines = play(tmp_path, str(REAL), "--edits", "200")
    assert len(lines) == 4
    assert lines[3].endswith(f"{4 * 512**3:,} voxels as numpy says")
