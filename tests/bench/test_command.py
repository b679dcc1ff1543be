import json

import pytest
from click.testing import CliRunner

from dvid_es.bench import bench
from dvid_es.bench.command import EXIT_DIFFERENT, EXIT_REFUSED, EXIT_UNREACHABLE

pytestmark = pytest.mark.usefixtures("short_repeats")
QUICK = ["--size", "64", "--repeat", "1", "--admintoken", "secret"]


def invoke(*words: str):
    return CliRunner().invoke(bench, list(words))


def test_two_right_servers_agree(serve, stub, second_stub, tmp_path):
    done = invoke(
        *("--base", serve(stub.handle), "--against", serve(second_stub.handle), *QUICK),
        *("--workload", "get-blocks*", "--workload", "labels-1000"),
        *("--json", str(tmp_path / "out.json")),
    )
    assert done.exit_code == 0, done.output
    assert "All answers were right and equal." in done.stdout
    assert "[1/3] get-blocks" in done.stderr
    whole = json.loads((tmp_path / "out.json").read_text())
    assert [one["name"] for one in whole["workloads"]] == [
        "get-blocks",
        "get-blocks-mapped",
        "labels-1000",
    ]
    assert whole["volume"]["shape_xyz"] == [64, 64, 64]
    assert whole["servers"]["against"]["version"] == "v0"


def test_a_wrong_server_is_reported_and_the_exit_code_says_so(serve, stub, second_stub):
    second_stub.lie = "labels"
    done = invoke(
        *("--base", serve(stub.handle), "--against", serve(second_stub.handle), *QUICK),
        *("--workload", "labels-1000"),
    )
    assert done.exit_code == EXIT_DIFFERENT
    assert "against: labels: 1000 differ" in done.stdout
    assert "the answers of the two servers differ" in done.stdout


def test_a_server_that_is_not_there_is_an_error_in_one_line():
    done = invoke("--base", "http://127.0.0.1:1", "--size", "64")
    assert done.exit_code == EXIT_UNREACHABLE
    assert done.stderr.startswith("Error: base: GET /api/server/info:")


def test_a_server_that_refuses_a_repository_is_told_with_its_text(serve, stub):
    done = invoke("--base", serve(stub.handle), "--size", "64")
    assert done.exit_code == EXIT_REFUSED
    assert "400 no admin" in done.stderr


def test_an_unknown_workload_names_the_nearest(serve, stub):
    done = invoke("--base", serve(stub.handle), "--workload", "sparsvol", *QUICK)
    assert done.exit_code == EXIT_REFUSED
    assert "did you mean sparsevol?" in done.stderr
    assert stub.requests == []


def test_a_wrong_url_or_file_is_told(serve, stub):
    assert "not the base" in invoke("--base", "http://x/y", *QUICK).stderr
    assert "no file" in invoke("--base", serve(stub.handle), *QUICK, "--volume", "x.npy").stderr


def test_the_workloads_can_be_listed_without_a_server():
    done = invoke("--list")
    assert done.exit_code == 0
    assert "get-blocks-mapped" in done.stdout
    assert "(must 10x, goal 40x)" in done.stdout
