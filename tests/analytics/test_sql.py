"""POST sql on a real server: what it answers, when, and in which form."""

from __future__ import annotations

import csv
import io
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dvid_es.analytics.pool import Job
from dvid_es.settings import Settings
from tests.conftest import Answer, Live

WAIT_SECONDS = 60


class Asked:
    """One repository of a server."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.root = live.new_repo()
        self.seg = live.new_instance(self.root, "labelmap", "seg")
        self.kv = live.new_instance(self.root, "keyvalue", "kv")

    def call(self, sql: str, **more: Any) -> Answer:
        return self.live.call("POST", f"/api/repo/{self.root}/sql", sql.encode(), **more)

    def ask(self, sql: str, **more: Any) -> list[tuple[Any, ...]]:
        answer = self.call(sql, **more)
        assert answer.status == 200, answer.text
        return [tuple(row) for row in answer.json()["rows"]]

    def put(self, key: str, value: bytes = b"v", **query: Any) -> Answer:
        return self.live.ok("POST", f"{self.kv}/key/{key}", value, **query)

    @property
    def data(self) -> Path:
        return self.live.engine.store.folder.parent

    def command(self, *words: str) -> str:
        """Return what a command says, run beside the server."""
        done = subprocess.run(
            [sys.executable, "-m", "dvid_es", *words],
            capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def export(self, *words: str) -> Any:
        where = ("--data", str(self.data), "--repo", self.root)
        return json.loads(self.command("export", "parquet", "--json", *where, *words))

    def post_volume(self) -> None:
        volume = np.ones((64, 64, 64), np.uint64)
        for label in range(2, 9):
            volume[8 * label :, :, :] = label
        self.live.ok("POST", f"{self.seg}/raw/0_1_2/64_64_64/0_0_0", volume.tobytes())

    def merge(self, *labels: int, at: str = "", **query: Any) -> Answer:
        path = (at or self.seg) + "/merge"
        return self.live.ok("POST", path, json_body=list(labels), **query)


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, run_server: Any
) -> Iterator[tuple[Settings, Live]]:
    settings = Settings(data=tmp_path_factory.mktemp("sql") / "data")
    with run_server(settings) as live:
        yield settings, live


@pytest.fixture
def asked(server: tuple[Settings, Live]) -> Asked:
    return Asked(server[1])


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something that another process or thread does."""
    pause = threading.Event()
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        pause.wait(0.05)


def test_each_acknowledged_write_is_in_the_next_answer(asked: Asked) -> None:
    for number in range(12):
        written = asked.put(f"k{number}", u="ann")
        answer = asked.call("SELECT count(*), max(seq) FROM mutations")
        assert answer.json()["rows"] == [[number + 1, int(written.headers["x-dvid-es-seq"])]]
        assert answer.headers["x-dvid-es-seq"] == written.headers["x-dvid-es-seq"]
        assert answer.json()["seq"] == int(written.headers["x-dvid-es-seq"])


def test_writes_are_seen_before_and_after_an_export(asked: Asked) -> None:
    for number in range(5):
        asked.put(f"a{number}")
    before = asked.ask("SELECT * FROM events ORDER BY seq")
    asked.export()
    assert asked.ask("SELECT * FROM events ORDER BY seq") == before
    asked.put("b")
    assert asked.ask("SELECT * FROM events ORDER BY seq")[:-1] == before
    asked.export()
    asked.put("c")
    assert asked.ask("SELECT seq FROM events ORDER BY seq") == [
        (n,) for n in range(len(before) + 2)
    ]


def test_one_event_has_all_its_columns(asked: Asked) -> None:
    asked.post_volume()
    answer = asked.merge(1, 2, 3, u="ann", app="tests")
    (row,) = asked.ask(
        'SELECT seq, action, instance, version, mutation_id, "user", app, target, labels, voxels, facts'
        " FROM mutations WHERE action = 'labelmap.merge'"
    )
    assert row == (
        int(answer.headers["x-dvid-es-seq"]), "labelmap.merge", "seg", asked.root,
        answer.json()["MutationID"], "ann", "tests", 1, 3, 2 * 8 * 64 * 64, None,
    )  # fmt: skip
    assert asked.ask("SELECT label, role, mutation_id FROM labels ORDER BY label") == [
        (1, "target", row[4]), (2, "merged", row[4]), (3, "merged", row[4]),
    ]  # fmt: skip
    assert asked.ask("SELECT parent, child, kind FROM lineage ORDER BY parent") == [
        (2, 1, "merged"), (3, 1, "merged"),
    ]  # fmt: skip


def test_cleaves_and_splits_are_in_the_lineage(asked: Asked) -> None:
    asked.post_volume()
    asked.merge(1, 2, 3)
    new = asked.live.ok("POST", f"{asked.seg}/cleave/1", json_body=[3]).json()["CleavedLabel"]
    runs = np.array([[0, 0, 8 * 4, 64]], "<i4").tobytes()
    sparse = b"\0\3\0\0" + (0).to_bytes(4, "little") + (1).to_bytes(4, "little") + runs
    split = asked.live.ok("POST", f"{asked.seg}/split-supervoxel/4", sparse).json()
    assert set(asked.ask("SELECT parent, child, kind FROM lineage")) == {
        (2, 1, "merged"), (3, 1, "merged"), (1, new, "cleaved"),
        (4, split["SplitSupervoxel"], "split"), (4, split["RemainSupervoxel"], "remain"),
    }  # fmt: skip


def test_answers_come_in_four_forms(asked: Asked) -> None:
    for number in range(3):
        asked.put(f"k{number}", u='ann,\n"b')
    sql = 'SELECT seq, "user", time, [seq] AS list FROM mutations ORDER BY seq'
    rows = asked.ask(sql)
    assert [row[1] for row in rows] == ['ann,\n"b'] * 3
    for form, accept in (
        ("csv", "text/csv"),
        ("arrow", "application/vnd.apache.arrow.stream"),
        ("parquet", "application/vnd.apache.parquet"),
    ):
        answer = asked.call(sql, format=form)
        accepted = asked.call(sql, headers={"Accept": f"text/html, {accept};q=0.9"})
        assert answer.headers["content-type"].split(";")[0] == accept
        assert accepted.headers["content-type"] == answer.headers["content-type"]
        if form == "csv":
            table = list(csv.reader(io.StringIO(answer.text)))
            assert table[0] == ["seq", "user", "time", "list"]
            assert [(int(r[0]), r[1], json.loads(r[3])) for r in table[1:]] == [
                (row[0], row[1], row[3]) for row in rows
            ]
        else:
            read = pa.ipc.open_stream(answer.body).read_all() if form == "arrow" else None
            found = (read or pq.read_table(io.BytesIO(answer.body))).to_pylist()
            assert [(r["seq"], r["user"], r["time"].isoformat(), r["list"]) for r in found] == rows


def test_numbers_of_all_sizes_and_kinds_are_json(asked: Asked) -> None:
    sql = """SELECT 18446744073709551615::UBIGINT, sum(x), 1.5::DECIMAL(10, 2), 0.1::DOUBLE,
        'nan'::DOUBLE, NULL, DATE '2026-01-02', 'é', '\\x00\\xff'::BLOB, {'a': [1, 2]}, MAP {'k': 1},
        INTERVAL 90 SECONDS, TRUE, 170141183460469231731687303715884105727::HUGEINT
        FROM (VALUES (9223372036854775807), (9223372036854775807)) AS t(x)"""
    answer = asked.call(sql)
    assert answer.status == 200, answer.text
    assert msgspec.json.decode(answer.body)["rows"][0] == [
        2**64 - 1, 2 * (2**63 - 1), 1.5, 0.1, "nan", None, "2026-01-02", "é", "00ff",
        {"a": [1, 2]}, [["k", 1]], {"months": 0, "days": 0, "seconds": 90.0}, True, 2**127 - 1,
    ]  # fmt: skip


def test_parameters_are_values_and_never_sql(asked: Asked) -> None:
    asked.put("k", u="ann'; --")
    body = {"sql": 'SELECT count(*) FROM mutations WHERE "user" = ?', "parameters": ["ann'; --"]}
    path = f"/api/repo/{asked.root}/sql"
    assert asked.live.ok("POST", path, json_body=body).json()["rows"] == [[1]]
    body = {"sql": "SELECT $a + 1, $b", "parameters": {"a": 1, "b": [1, 2]}}
    assert asked.live.ok("POST", path, json_body=body).json()["rows"] == [[2, [1, 2]]]


def test_bodies_at_a_version_are_those_that_it_has(asked: Asked) -> None:
    live = asked.live
    asked.post_volume()
    asked.merge(1, 2)
    live.commit(asked.root)
    child = live.new_version(asked.root)
    asked.merge(1, 3, 4, at=f"/api/node/{child}/seg")
    slab = 8 * 64 * 64
    old = asked.ask(
        f"SELECT instance, body, voxels, supervoxels FROM bodies_at('{asked.root}') ORDER BY body"
    )
    assert old == [("seg", 1, 3 * slab, 2), *(("seg", label, slab, 1) for label in range(3, 8)),
                   ("seg", 8, 0, 1)][: len(old)]  # fmt: skip
    new = asked.ask("SELECT body, voxels FROM bodies_at(':master') ORDER BY body")
    assert new == sizes(live, f"/api/node/{child}/seg")
    assert [row[1:3] for row in old] == sizes(live, asked.seg)
    assert old != new
    both = f"""SELECT a.body FROM bodies_at('{asked.root[:8]}') a
        ANTI JOIN bodies_at('{child[:8]}') b USING (body) ORDER BY 1"""
    assert asked.ask(both) == [(3,), (4,)]
    assert set(asked.ask("SELECT supervoxel, body FROM mapping_at(':master')")) == {
        (2, 1), (3, 1), (4, 1),
    }  # fmt: skip
    for sql in ("SELECT * FROM bodies_at('nowhere')", "SELECT * FROM bodies_at('')"):
        assert asked.call(sql).status == 400


def sizes(live: Live, path: str) -> list[tuple[int, int]]:
    data = live.ok("GET", f"{path}/listlabels", start=0, number=1000, sizes="true").body
    found = np.frombuffer(data, "<u8").reshape(-1, 2)
    return [(int(label), int(size)) for label, size in found]


def test_states_that_take_too_long_to_read_are_refused(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked.post_volume()
    monkeypatch.setattr(Job, "until", lambda job, _: setattr(job, "_deadline", 0.0))
    answer = asked.call("SELECT * FROM bodies_at(':master')")
    assert answer.status == 400
    assert "export parquet --table" in answer.text


def test_key_values_at_a_version_are_those_that_it_has(asked: Asked) -> None:
    asked.put("a", b"1")
    asked.put("b", b"x" * 5000)
    asked.live.commit(asked.root)
    child = asked.live.new_version(asked.root)
    asked.live.ok("DELETE", f"/api/node/{child}/kv/key/a")
    sql = "SELECT key, octet_length(value) FROM keyvalues_at('{}') ORDER BY key"
    assert asked.ask(sql.format(asked.root)) == [("a", 1), ("b", 5000)]
    assert asked.ask(sql.format(child)) == [("b", 5000)]


def test_regions_at_a_version_are_those_that_it_has(asked: Asked) -> None:
    path = asked.live.new_instance(asked.root, "roi", "brain")
    asked.live.ok("POST", f"{path}/roi", json_body=[[-1, 2, 3, 9], [-4, 0, 0, 0]])
    asked.live.commit(asked.root)
    child = asked.live.new_version(asked.root)
    asked.live.ok("DELETE", f"/api/node/{child}/brain/roi")
    sql = "SELECT instance, z, y, x0, x1 FROM spans_at('{}') ORDER BY z"
    expected = [("brain", -4, 0, 0, 0), ("brain", -1, 2, 3, 9)]
    assert asked.ask(sql.format(asked.root)) == expected
    assert asked.ask(sql.format(child)) == []


def test_tables_of_the_present_are_exported_on_request(asked: Asked) -> None:
    asked.post_volume()
    asked.merge(1, 2)
    asked.put("a", b"1")
    words = ["--table", "bodies", "seg", ":master", "--table", "mapping", "seg", asked.root[:6]]
    (row,) = asked.export(*words, "--table", "keyvalues", "kv", asked.root)
    assert row["tables"] == 3
    folder = asked.data / "analytics" / asked.root
    states = json.loads((folder / "manifest.json").read_text())["states"]
    tables = {state["table"]: pq.ParquetFile(folder / state["file"]).read() for state in states}
    bodies = tables["bodies"].to_pylist()
    assert [(row["body"], row["voxels"]) for row in bodies] == sizes(asked.live, asked.seg)
    assert tables["mapping"].to_pylist() == [{"supervoxel": 2, "body": 1}]
    assert tables["keyvalues"].to_pylist() == [{"key": "a", "value": b"1"}]


def test_versions_and_instances_show_the_present(asked: Asked) -> None:
    live = asked.live
    live.commit(asked.root)
    child = live.ok("POST", f"/api/node/{asked.root}/branch", json_body={"branch": "side"}).json()[
        "child"
    ]
    assert asked.ask("SELECT uuid, number, branch, parents, locked FROM versions ORDER BY number") == [
        (asked.root, 1, "", [], True), (child, 2, "side", [asked.root], False),
    ]  # fmt: skip
    assert asked.ask("SELECT name, type, version FROM instances ORDER BY number") == [
        ("seg", "labelmap", asked.root), ("kv", "keyvalue", asked.root),
    ]  # fmt: skip


def test_a_query_sees_its_own_repository_only(server: tuple[Settings, Live]) -> None:
    one, other = Asked(server[1]), Asked(server[1])
    one.put("k")
    assert len(one.ask("SELECT * FROM mutations")) == 1
    assert other.ask("SELECT * FROM mutations") == []
    assert other.call(f"SELECT * FROM bodies_at('{one.root}')").status == 400


@pytest.mark.parametrize(
    ("body", "query", "says"),
    [
        (b"", {}, "no query"),
        (b"  \n", {}, "no query"),
        (b"\xff\xfe", {}, "not UTF-8"),
        (b'{"sql"', {}, "not JSON"),
        (b'{"sql": 1}', {}, "text"),
        (b'{"query": "SELECT 1"}', {}, "text"),
        (b'{"sql": "SELECT 1", "more": 1}', {}, "text"),
        (b'{"sql": "SELECT ?", "parameters": 5}', {}, "parameters"),
        (b'{"sql": "SELECT ?", "parameters": []}', {}, "arameter"),
        (b'{"sql": "SELECT $a", "parameters": {"b": 1}}', {}, "arameter"),
        (b"SELECT 1", {"format": "xml"}, "not one of"),
        (b"SELECT 1", {"at": "3"}, "WHERE seq"),
        (b"SELECT nothing FROM events", {}, "nothing"),
        (b"SELECT 1/", {}, "syntax"),
        (b"SELECT 'x'::INT", {}, "onver"),
    ],
)
def test_what_cannot_be_answered_is_a_clear_400(
    asked: Asked, body: bytes, query: dict[str, str], says: str
) -> None:
    answer = asked.live.call("POST", f"/api/repo/{asked.root}/sql", body, **query)
    assert answer.status == 400
    assert says in answer.text
    assert str(asked.data) not in answer.text


def test_a_query_can_be_a_link_and_is_answered_in_read_only_mode(
    settings: Settings, run_server: Any
) -> None:
    with run_server(settings) as live:
        asked = Asked(live)
    with run_server(msgspec.structs.replace(settings, mode="readonly")) as live:
        path = f"/api/repo/{asked.root}/sql"
        answer = live.ok("GET", path, query="SELECT count(*) FROM instances", format="csv")
        assert answer.text.splitlines()[1] == "2"


def test_more_queries_than_may_run_are_told_to_come_again(asked: Asked) -> None:
    analytics = asked.live.engine.analytics
    assert analytics is not None
    with analytics.slot(), analytics.slot():
        answer = asked.call("SELECT 1")
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
    assert asked.ask("SELECT 1") == [(1,)]


ENDLESS = "SELECT count(*) FROM range(1000000000000) a, range(1000000) b"


def test_a_query_ends_when_its_client_hangs_up(asked: Asked) -> None:
    analytics = asked.live.engine.analytics
    assert analytics is not None
    assert asked.ask("SELECT 1") == [(1,)]
    with socket.create_connection(("127.0.0.1", asked.live.port)) as client:
        head = f"POST /api/repo/{asked.root}/sql HTTP/1.1\r\nHost: x\r\nContent-Length: {len(ENDLESS)}\r\n\r\n"
        client.sendall(head.encode() + ENDLESS.encode())
        eventually(lambda: analytics._pool.running == 1)
    eventually(lambda: analytics._pool.running == 0)
    assert asked.ask("SELECT 1") == [(1,)]


def test_the_server_answers_others_while_a_query_runs_and_ends_it_in_time(
    settings: Settings, run_server: Any
) -> None:
    with run_server(msgspec.structs.replace(settings, sql_seconds=3)) as live:
        asked = Asked(live)
        answers: list[Answer] = []
        thread = threading.Thread(target=lambda: answers.append(asked.call(ENDLESS)))
        thread.start()
        eventually(lambda: live.engine.analytics._pool.running == 1)
        assert live.ok("GET", "/api/heartbeat").text == "OK"
        asked.put("k")
        thread.join(WAIT_SECONDS)
        assert answers[0].status == 400
        assert "longer than 3 s" in answers[0].text


@pytest.fixture
def impatient(settings: Settings, run_server: Any) -> Iterator[Asked]:
    with run_server(msgspec.structs.replace(settings, sql_tail_events=10)) as live:
        yield Asked(live)


def test_a_long_history_is_exported_before_it_is_asked(impatient: Asked) -> None:
    for number in range(40):
        impatient.put(f"k{number}")
    answer = impatient.call("SELECT count(*) FROM mutations")
    assert answer.status == 503
    assert "being exported" in answer.text
    assert int(answer.headers["retry-after"]) > 0
    eventually(lambda: impatient.call("SELECT 1").status == 200)
    impatient.put("last")
    assert impatient.ask("SELECT count(*) FROM mutations") == [(41,)]


def test_queries_go_on_while_what_they_read_is_exported(impatient: Asked) -> None:
    """Each time more than ten events are waiting an export begins behind the queries."""
    folder = impatient.data / "analytics" / impatient.root
    total = 0
    while len(list(folder.glob("events/*/*.parquet"))) < 2:
        for _ in range(6):
            impatient.put(f"k{total}")
            total += 1
        answer = impatient.call("SELECT count(*) FROM mutations")
        if answer.status == 200:
            assert answer.json()["rows"] == [[total]]
        else:
            assert answer.status == 503
            eventually(lambda: impatient.call("SELECT 1").status == 200)
        assert total < 3000
    assert impatient.ask("SELECT count(*) FROM mutations") == [(total,)]


def test_nothing_is_left_behind_by_a_server(settings: Settings, run_server: Any) -> None:
    with run_server(settings) as live:
        asked = Asked(live)
        asked.put("k")
        assert len(asked.ask("FROM mutations")) == 1
        assert (settings.data / "analytics" / "serving").exists()
    assert not (settings.data / "analytics" / "serving").exists()


def test_the_command_line_asks_servers_and_folders(asked: Asked, tmp_path: Path) -> None:
    asked.put("k", u="ann")
    asked.put("l", u="bob")
    query = 'SELECT "user", count(*) AS n FROM mutations GROUP BY 1 ORDER BY 1'
    repo = ("--repo", asked.root)
    shown = asked.command("sql", query, *repo, "--server", asked.live.base)
    assert shown.split() == ["user", "n", "ann", "1", "bob", "1"]
    folder = ("--data", str(asked.data))
    assert asked.command("sql", query, *repo, *folder) == shown
    file = tmp_path / "answer.parquet"
    asked.command("sql", query, *repo, *folder, "--format", "parquet", "-o", str(file))
    assert pq.read_table(file).to_pylist() == [{"user": "ann", "n": 1}, {"user": "bob", "n": 1}]


def test_neither_duckdb_nor_pyarrow_is_imported_before_a_query() -> None:
    script = (
        "import sys, dvid_es.analytics.service, dvid_es.analytics.pool, dvid_es.repos.endpoints_sql,"
        " dvid_es.cli.history; print({'duckdb', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.strip() == "set()"
