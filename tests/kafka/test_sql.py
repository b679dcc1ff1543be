"""Queries and exports read the log wherever it is."""

from __future__ import annotations

import dvid_es.bootstrap
from dvid_es.analytics.export import export
from dvid_es.analytics.offline import opened
from dvid_es.bootstrap import described
from dvid_es.projections.store import Store
from tests.kafka.test_server import on_kafka  # noqa: F401 - a fixture

COUNT = b"SELECT count(*), max(seq) FROM mutations"


def test_queries_and_exports_see_the_events_on_kafka(on_kafka, run_server, tmp_path):  # noqa: F811
    with run_server(on_kafka) as live:
        root = live.new_repo()
        kv = live.new_instance(root, "keyvalue", "kv")
        for number in range(8):
            live.ok("POST", f"{kv}/key/k{number}", b"v")
            answer = live.ok("POST", f"/api/repo/{root}/sql", COUNT)
            assert answer.json()["rows"] == [[number + 1, number + 2]]
    folder = on_kafka.data / "repos" / root
    store = Store(on_kafka.data / "projections", read_only=True)
    try:
        with (
            dvid_es.bootstrap.open_reader(on_kafka, folder / "log") as log,
            opened(store, root, log, folder / "packs") as source,
        ):
            manifest = export(source, tmp_path / "export", described())
    finally:
        store.close()
    assert manifest.upto == 10
    assert len(manifest.parts) == 1
    with run_server(on_kafka) as live:
        exported = on_kafka.data / "analytics"
        exported.mkdir(exist_ok=True)
        (tmp_path / "export").rename(exported / root)
        live.ok("POST", f"/api/node/{root}/kv/key/last", b"v")
        assert live.ok("POST", f"/api/repo/{root}/sql", COUNT).json()["rows"] == [[9, 10]]
