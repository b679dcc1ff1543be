"""What a query must not do: each is refused, by the check of its tree and by the sandbox alone."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dvid_es.analytics import guard, worker
from dvid_es.analytics.pool import Pool
from dvid_es.analytics.service import Limits, Query
from dvid_es.errors import InvalidRequest
from tests.analytics.conftest import History, random_history

REFUSED = {
    "reads a CSV file": "SELECT * FROM read_csv('/etc/passwd')",
    "reads a text file": "SELECT * FROM read_text('/etc/passwd')",
    "reads bytes": "SELECT * FROM read_blob('/etc/passwd')",
    "reads JSON": "SELECT * FROM read_json('/etc/hosts')",
    "reads a Parquet file": "SELECT * FROM read_parquet('{stranger}')",
    "reads a file by its name": "SELECT * FROM '{stranger}'",
    "lists a folder": "SELECT * FROM glob('/etc/*')",
    "sniffs a file": "SELECT * FROM sniff_csv('/etc/passwd')",
    "reads another database": "SELECT * FROM read_duckdb('/tmp/x.duckdb')",
    "reads the network": "SELECT * FROM read_csv('http://127.0.0.1:1/x.csv')",
    "reads a bucket": "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
    "hides a file in a subquery": "SELECT (SELECT count(*) FROM read_csv('/etc/passwd'))",
    "hides a file in WITH": "WITH x AS (SELECT * FROM read_csv('/etc/passwd')) SELECT * FROM x",
    "hides a file in a text": "SELECT * FROM query('SELECT * FROM read_csv(''/etc/passwd'')')",
    "names a table by a text": "SELECT * FROM query_table('_events')",
    "copies to a file": "COPY (SELECT 1) TO '{target}'",
    "copies from a file": "COPY labels FROM '/etc/passwd'",
    "exports": "EXPORT DATABASE '{target}'",
    "attaches": "ATTACH '{target}' AS other",
    "installs": "INSTALL httpfs",
    "loads": "LOAD httpfs",
    "sets": "SET enable_external_access = true",
    "sets memory": "SET memory_limit = '100GB'",
    "resets": "RESET lock_configuration",
    "asks for a pragma": "PRAGMA enable_profiling",
    "shows settings": "SELECT * FROM duckdb_settings()",
    "shows one setting": "SELECT current_setting('temp_directory')",
    "shows secrets": "SELECT * FROM duckdb_secrets()",
    "shows views": "SELECT sql FROM duckdb_views()",
    "shows the schema": "SELECT * FROM information_schema.tables",
    "shows the catalog": "SELECT * FROM pg_catalog.pg_class",
    "shows tables": "SHOW ALL TABLES",
    "reads what lies under a view": "SELECT * FROM _events",
    "reads the environment": "SELECT getenv('HOME')",
    "reads a variable": "SELECT getvariable('x')",
    "writes the journal": "SELECT write_log('x')",
    "sleeps": "SELECT sleep_ms(100000)",
    "creates": "CREATE TABLE x AS SELECT 1",
    "inserts": "INSERT INTO labels VALUES (1)",
    "inserts by WITH": "WITH x AS (SELECT 1) INSERT INTO labels SELECT * FROM x",
    "updates": "UPDATE events SET seq = 1 RETURNING *",
    "deletes": "DELETE FROM events",
    "drops": "DROP VIEW events",
    "replaces": "CREATE OR REPLACE VIEW events AS SELECT 1",
    "makes a macro": "CREATE MACRO f(x) AS x",
    "calls": "CALL pragma_version()",
    "explains and runs": "EXPLAIN ANALYZE SELECT 1",
    "begins": "BEGIN",
    "checkpoints": "CHECKPOINT",
    "prepares": "PREPARE x AS SELECT 1",
    "asks twice": "SELECT 1; SELECT 2",
    "asks and copies": "SELECT 1; COPY (SELECT 1) TO '{target}'",
    "pivots into types": "PIVOT events ON action USING count(*)",
    "asks nothing": "-- nothing",
    "is no SQL": "hello",
    "is binary": "SELECT '\0",
    "is long": "SELECT " + "1 + " * 30_000 + "1",
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, pool: Pool) -> History:
    history = History(tmp_path_factory.mktemp("hostile"), pool)
    random_history(history, 20)
    history.export()
    random_history(history, 5)
    return history


def filled(history: History, sql: str) -> str:
    stranger = history.folder / "stranger.parquet"
    if not stranger.exists():
        duckdb.sql("SELECT 1 AS x").write_parquet(str(stranger))
    target = history.folder / "written"
    return sql.replace("{stranger}", str(stranger)).replace("{target}", str(target))


@pytest.mark.parametrize("name", REFUSED)
def test_a_query_is_refused_that(name: str, asked: History) -> None:
    before = sorted(asked.folder.rglob("*.parquet"))
    with pytest.raises(InvalidRequest):
        asked.ask(filled(asked, REFUSED[name]))
    assert not (asked.folder / "written").exists()
    assert sorted(asked.folder.rglob("*.parquet")) in (
        before, sorted([*before, asked.folder / "stranger.parquet"]),
    )  # fmt: skip
    assert asked.ask("SELECT count(*) FROM events") == [(25,)]


@pytest.mark.parametrize(
    "name",
    [
        "reads a CSV file", "reads a text file", "reads bytes", "reads JSON", "reads a Parquet file",
        "reads a file by its name", "lists a folder", "sniffs a file", "reads another database",
        "reads the network", "reads a bucket", "copies to a file", "copies from a file", "exports",
        "attaches", "installs", "loads", "sets", "sets memory", "resets", "hides a file in a text",
    ],
)  # fmt: skip
def test_the_sandbox_alone_refuses_what(name: str, asked: History) -> None:
    made: list[Path] = []
    ask = asked.analytics._ask(Query("SELECT 1"), asked.subject(), made)
    connection = worker.connect(ask)
    try:
        with pytest.raises(duckdb.Error):
            connection.execute(filled(asked, REFUSED[name])).fetchall()
        assert connection.execute("SELECT count(*) FROM events").fetchall() == [(25,)]
    finally:
        connection.close()
        for path in made:
            path.unlink()
    assert not (asked.folder / "written").exists()


def test_exported_files_cannot_be_overwritten_from_the_sandbox(asked: History) -> None:
    made: list[Path] = []
    ask = asked.analytics._ask(Query("SELECT 1"), asked.subject(), made)
    file = Path(ask.folder) / ask.events[0]
    before = file.read_bytes()
    with pytest.raises(InvalidRequest):
        asked.ask(f"COPY (SELECT 1) TO '{file}' (USE_TMP_FILE false)")
    assert file.read_bytes() == before
    for path in made:
        path.unlink()


def test_names_that_a_query_defines_itself_may_be_anything(asked: History) -> None:
    assert asked.ask("WITH information AS (SELECT 7 AS n) SELECT n FROM information") == [(7,)]
    assert asked.ask("SELECT x FROM (VALUES (1)) AS t(x)") == [(1,)]
    assert asked.ask("SELECT count(*) FROM main.events, range(2)") == [(50,)]
    assert asked.ask("FROM events SELECT max(seq)") == [(24,)]
    assert len(asked.ask("DESCRIBE labels")) == 6


def test_a_name_of_a_query_does_not_open_a_file(asked: History) -> None:
    stranger = filled(asked, "{stranger}")
    sql = f"SELECT * FROM (WITH \"{stranger}\" AS (SELECT 1) SELECT 1), '{stranger}'"
    with pytest.raises(InvalidRequest):
        asked.ask(sql)


@pytest.fixture
def hasty(history: History) -> History:
    random_history(history, 20)
    history.analytics.limits = Limits(
        seconds=1.5, memory_bytes=256 << 20, threads=1, result_bytes=1 << 20
    )
    return history


ENDLESS = [
    "SELECT count(*) FROM range(1000000000000) a, range(1000000) b",
    "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT 1 FROM r) SELECT count(*) FROM r",
]


@pytest.mark.parametrize("sql", ENDLESS)
def test_a_query_without_end_is_ended(sql: str, hasty: History) -> None:
    started = time.monotonic()
    with pytest.raises(InvalidRequest, match=r"longer than 1\.5 s|memory"):
        hasty.ask(sql)
    assert time.monotonic() - started < 60
    assert hasty.ask("SELECT count(*) FROM events") == [(20,)]


GREEDY = [
    "SELECT repeat('x', 3000000000)",
    "SELECT length(repeat('x', 2500000000))",
    "SELECT length(repeat(repeat('x', 40000), 40000) || repeat('x', 1200000000))",
    "SELECT len(list(range)) FROM range(1000000000)",
    "SELECT string_agg(repeat('x', 1000), '') FROM range(10000000)",
    "SELECT count(DISTINCT hash(range)) FROM range(100000000)",
]


@pytest.mark.parametrize("sql", GREEDY)
def test_a_query_that_wants_much_memory_is_refused(sql: str, hasty: History) -> None:
    hasty.analytics.limits = hasty.analytics.limits._replace(seconds=20)
    before = resident()
    with pytest.raises(InvalidRequest, match=r"memory|longer"):
        hasty.ask(sql)
    gc.collect()
    assert resident() - before < 200 << 20
    assert hasty.ask("SELECT count(*) FROM events") == [(20,)]


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_large_result_is_refused_before_it_is_made(hasty: History) -> None:
    with pytest.raises(InvalidRequest, match="larger than 1 MiB"):
        hasty.ask("SELECT range FROM range(100000000000)")
    assert len(hasty.ask("SELECT range FROM range(1000)")) == 1000


def test_the_environment_of_a_worker_says_nothing(hasty: History, monkeypatch: Any) -> None:
    monkeypatch.setenv("DVID_ADMIN_TOKEN", "do-not-tell")
    with hasty.analytics.slot():
        taken, _ = hasty.analytics._pool._take()
    try:
        environment = Path(f"/proc/{taken._process.pid}/environ").read_bytes()
        assert b"PYTHONPATH" in environment
        assert b"do-not-tell" not in environment
    finally:
        hasty.analytics._pool._give_back(taken, True)


def test_the_check_finds_every_version_that_is_asked_for() -> None:
    connection = duckdb.connect(":memory:")
    try:
        checked = guard.check(
            connection,
            "SELECT * FROM bodies_at('a') x JOIN bodies_at('b') y USING (body)"
            " WHERE x.body IN (SELECT body FROM bodies_at('a')) AND y.body IN"
            " (SELECT body FROM mapping_at(':master'))",
        )
        assert {name: sorted(v) for name, v in checked.states.items()} == {
            "bodies_at": ["a", "b"], "mapping_at": [":master"],
        }  # fmt: skip
        for sql in ("FROM bodies_at(1)", "FROM bodies_at('a', 'b')", "FROM bodies_at('a' || 'b')"):
            with pytest.raises(InvalidRequest, match="one version as a text"):
                guard.check(connection, sql)
    finally:
        connection.close()
