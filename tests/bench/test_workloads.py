import pytest

from dvid_es.bench.runner import run_one
from dvid_es.bench.target import Target
from dvid_es.bench.workloads import WORKLOADS

pytestmark = pytest.mark.usefixtures("short_repeats")

BY_NAME = {one.name: one for one in WORKLOADS}

LIES = [
    ("get-keyvalue", "key"),
    ("get-info", "info"),
    ("get-server-info", "server"),
    ("put-keyvalue-16", "key"),
    ("get-blocks", "blocks"),
    ("get-blocks-mapped", "blocks"),
    ("get-block-mapped", "blocks"),
    ("get-raw-64", "raw"),
    ("get-raw-64-lz4", "raw"),
    ("get-raw-64-gzip", "raw"),
    ("get-raw-64-shifted", "raw"),
    ("get-raw-256", "raw"),
    ("get-raw-256-lz4", "raw"),
    ("get-raw-256-gzip", "raw"),
    ("post-blocks", "blocks"),
    ("post-blocks-downres", "blocks"),
    ("post-raw-256", "blocks"),
    ("post-raw-256-downres", "blocks"),
    ("ingest-supervoxels", "blocks"),
    ("merge-sequential", "merge"),
    ("merge-sequential", "mapping"),
    ("cleave-sequential", "cleave"),
    ("cleave-sequential", "supervoxels"),
    ("mutations-16", "merge"),
    ("mutations-16", "cleave"),
    ("merge-1000", "merge"),
    ("merge-huge", "merge"),
    ("merge-huge", "mapping"),
    ("cleave-huge", "cleave"),
    ("cleave-huge", "supervoxels"),
    ("sparsevol", "sparsevol"),
    ("labels-1000", "labels"),
    ("sizes-1000", "sizes"),
    ("supervoxels", "supervoxels"),
    ("index", "index"),
    ("mapping-1000", "mapping"),
]


@pytest.fixture
def target(serve, stub):
    target = Target("base", serve(stub.handle), "secret")
    target.prepare()
    yield target
    target.close()


@pytest.mark.parametrize("workload", WORKLOADS, ids=list(BY_NAME))
def test_every_workload_finds_a_right_server_right(workload, target, small_data):
    result = run_one(workload(small_data), [target], 1, lambda _: None)
    assert result.problems == []
    assert result.summaries["base"].median > 0


@pytest.mark.parametrize(("name", "word"), LIES)
def test_every_workload_finds_a_wrong_answer(name, word, target, stub, small_data):
    stub.lie = word
    result = run_one(BY_NAME[name](small_data), [target], 1, lambda _: None)
    assert result.problems, f"{name} did not notice that {word} was wrong"


def test_all_workloads_have_a_lie_that_they_find():
    assert set(BY_NAME) - {name for name, _ in LIES} == {"put-keyvalue-1", "put-keyvalue-64"}


def test_workloads_stay_in_the_repository_that_they_made(target, stub, small_data):
    run_one(BY_NAME["merge-sequential"](small_data), [target], 1, lambda _: None)
    paths = {path for _, path in stub.requests}
    allowed = ("/api/node/abc/bench", "/api/repo/abc/instance", "/api/server/info", "/api/repos?")
    assert [path for path in paths if not path.startswith(allowed)] == []
