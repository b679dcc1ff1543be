from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from typing import Any

import pytest

from dvid_es.errors import InvalidRequest, Overloaded
from dvid_es.http.monitor import Monitor
from dvid_es.http.server import DVID_VERSION, SERVER_ROUTES, duration
from dvid_es.settings import Settings, StoreAssignment

ADMIN = "admintoken=secret"


@pytest.fixture(scope="module")
def server(run_server, tmp_path_factory) -> Any:
    data = tmp_path_factory.mktemp("server") / "data"
    settings = Settings(
        data=data,
        admin_token="secret",
        note="hello <world>",
        kafka_servers=("a:1", "b:2"),
        kafka_topic_prefix="p-",
        public_host="big.example.org",
        backends={"tag=x": StoreAssignment("fast", "logs"), "default": StoreAssignment("main")},
    )
    with run_server(settings) as live:
        yield live


def test_the_version_has_numbers_where_clients_look_for_them():
    pieces = re.split(r"[.-]", DVID_VERSION.lstrip("v"))
    assert [int(piece) for piece in pieces[:4]] == [1, 0, 0, 1]


def test_info_is_all_texts(server):
    answer = server.ok("GET", "/api/server/info")
    found = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert all(type(value) is str for value in found.values())
    assert found["Host"] == "big.example.org:8000"
    assert found["Kafka Servers"] == "a:1,b:2"
    assert found["Kafka Topic Prefix"] == "p-"
    assert found["Kafka Activity Topic"] == "dvidactivity-big.example.org"
    assert found["Durability"].startswith("D0")
    assert "Mode" not in found
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? \+0000 UTC", found["Server time"])


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0s"), (12_345_000_000, "12.345s"), (60_000_000_000, "1m0s"),
     (3_723_500_000_000, "1h2m3.5s")],
)  # fmt: skip
def test_uptime_is_written_as_go_does(nanoseconds, text):
    assert duration(nanoseconds) == text


def test_heartbeats_of_many_users_are_remembered(server):
    def beat(number: int) -> None:
        server.ok("GET", "/api/heartbeat", u=f"user{number % 10}")

    threads = [threading.Thread(target=beat, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everybody = server.ok("GET", "/api/user-latencies").json()
    assert {f"user{number}" for number in range(10)} <= set(everybody)
    one = server.ok("GET", "/api/user-latencies", u="user3").json()
    assert one["User"] == "user3"
    assert set(one) == {"User", "LastPing", "LastLatency", "MinLatency", "MaxLatency"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", one["LastPing"])
    nobody = server.ok("GET", "/api/user-latencies", u="never seen").json()
    assert nobody["User"] == nobody["LastPing"] == ""


def test_load_counts_what_happened(server):
    server.ok("GET", "/api/load")
    for _ in range(40):
        server.ok("GET", "/api/server/note")
    found = server.ok("GET", "/api/load").json()
    assert all(type(value) is int for value in found.values())
    assert found["GET requests"] > 0
    assert found["value bytes read"] > 0


def test_only_admins_see_the_configuration_and_change_settings(server):
    for method, path in (
        ("GET", "/api/server/config"),
        ("POST", "/api/server/settings"),
        ("POST", "/api/server/reload-auth"),
        ("POST", "/api/server/reload-blocklist"),
        ("GET", "/api/storage"),
    ):
        for query in ("", "?admintoken=", "?admintoken=wrong"):
            assert server.call(method, path + query, b"{}").status == 400
        assert server.call(method, path, b"{}", headers={"X-DVID-Admin-Token": "no"}).status == 400
    assert "[server]" in server.ok("GET", f"/api/server/config?{ADMIN}").text
    header = {"X-DVID-Admin-Token": "secret"}
    assert "secret" not in server.ok("GET", "/api/server/config", headers=header).text


def test_nobody_is_an_admin_without_a_token(run_server, tmp_path):
    with run_server(Settings(data=tmp_path / "data")) as live:
        for token in ("", "x"):
            assert live.call("GET", f"/api/server/config?admintoken={token}").status == 400


def test_settings_are_set_together_or_not_at_all(server):
    path = f"/api/server/settings?{ADMIN}"
    text = server.ok("POST", path, json_body={"gc": "300", "throttle": 2}).text
    assert text.endswith(
        "target percentage set to 300 from 100\nMaximum throttled ops set to 2 from 1\n"
    )
    for body in (
        {"gc": "100", "throttle": "many"},
        {"throttle": 0, "gc": 5},
        {"gc": True},
        {"gc": 1.5},
    ):
        assert server.call("POST", path, json_body=body).status == 400
    text = server.ok("POST", path, json_body={"gc": 100, "throttle": "1"}).text
    assert "to 100 from 300\n" in text
    assert "to 1 from 2\n" in text
    assert server.call("POST", path, b"{").status == 400


def test_storage_is_an_object_of_sizes(server):
    root = server.new_repo()
    kv = server.new_instance(root, "keyvalue", "kv")
    server.ok("POST", f"{kv}/key/a", b"x" * 10_000)
    found = server.ok("GET", f"/api/storage?{ADMIN}").json()
    mine = found["repositories"][root]
    assert mine["events"] == 3
    assert mine["pack bytes"] > 10_000
    assert mine["instances"]["kv"]["rows"] >= 2
    assert found["views"]["bytes used"] > 0


def test_types_tell_what_is_used_and_what_there_is(server):
    root = server.new_repo()
    server.new_instance(root, "keyvalue", "kv")
    used = server.ok("GET", "/api/server/types").json()
    compiled = server.ok("GET", "/api/server/compiled-types").json()
    assert used.items() <= compiled.items()
    assert compiled["labelmap"] == "github.com/janelia-flyem/dvid/datatype/labelmap"


def test_stores_are_assigned_and_shown(server):
    root = server.new_repo()
    tagged = server.new_instance(root, "keyvalue", "tagged", tags="x=x")
    server.ok("POST", f"{tagged}/tags", json_body={"tag": "x"})
    plain = server.new_instance(root, "keyvalue", "plain")
    shown = server.ok("GET", f"{tagged}/info").json()["Base"]
    assert shown["KVStore"].startswith("fast: lmdb @ ")
    assert shown["LogStore"].startswith("logs: filelog @ ")
    assert server.ok("GET", f"{plain}/info").json()["Base"]["KVStore"].startswith("main: ")


def test_info_is_made_anew_after_each_write(server):
    kv = server.new_instance(server.new_repo(), "keyvalue", "kv")
    for number in range(3):
        server.ok("POST", f"{kv}/tags", json_body={"n": str(number)})
        for _ in range(2):
            base = server.ok("GET", f"{kv}/info").json()["Base"]
            assert base["Tags"] == {"n": str(number)}


def test_a_blob_is_found_from_the_server_whichever_repository_has_it(server):
    server.new_repo()
    kv = server.new_instance(server.new_repo(), "keyvalue", "kv")
    reference = server.ok("POST", f"{kv}/blobstore", b"b" * 1000).json()["reference"]
    assert server.ok("GET", f"/api/server/blobstore/{reference}").body == b"b" * 1000
    unknown = "A" * 22 + "=="
    assert server.call("GET", f"/api/server/blobstore/{unknown}").status == 404
    assert server.call("GET", "/api/server/blobstore/not-base64").status == 400
    assert server.call("GET", "/api/server/blobstore").status == 400


def test_help_pages_name_every_endpoint(server):
    page = server.ok("GET", "/api/help")
    assert page.headers["content-type"] == "text/html"
    for key in SERVER_ROUTES:
        path = key.partition(" ")[2]
        assert f"<code>/{path}" in page.text, key
    for name in server.ok("GET", "/api/server/compiled-types").json():
        assert f'href="/api/help/{name}"' in page.text
        text = server.ok("GET", f"/api/help/{name}")
        assert text.headers["content-type"] == "text/plain"
        assert name in text.text
    assert server.call("GET", "/api/help/nothing").status == 400


def test_every_keyvalue_endpoint_is_in_its_help(server):
    from dvid_es.datatypes.keyvalue import KEYVALUE

    for key in KEYVALUE.endpoints:
        assert f"{{base}}/{key.partition(' ')[2]}" in KEYVALUE.help


def test_the_first_page_shows_repositories_and_escapes_what_people_wrote(server):
    server.new_repo(alias="<script>alert(1)</script>")
    page = server.ok("GET", "/")
    assert page.headers["content-type"].startswith("text/html")
    assert "<script>" not in page.text
    assert "&lt;script&gt;" in page.text
    assert "hello &lt;world&gt;" in page.text
    assert 'href="/api/help"' in page.text


def test_unknown_paths_and_methods_are_404(server):
    for method, path in (
        ("GET", "/api/nothing"),
        ("GET", "/api/server/nothing"),
        ("POST", "/api/server/info"),
        ("PUT", "/api/repos/info"),
        ("GET", "/api/server/settings"),
        ("GET", "/api/heartbeat/"),
        ("GET", "/api/server/info/"),
        ("GET", "/favicon.ico"),
    ):
        answer = server.call(method, path)
        assert answer.status == 404, path
        assert answer.text == "404 page not found\n"


def test_paths_are_cleaned_by_a_redirect(server):
    kv = server.new_instance(server.new_repo(), "keyvalue", "kv")
    for path, cleaned in (
        (f"{kv}/keyrange//z", f"{kv}/keyrange/z"),
        (f"{kv}/key/..", kv),
        ("/api/./server//info?a=b//c", "/api/server/info?a=b//c"),
        ("/api/server/info/../", "/api/server/"),
        ("/../..", "/"),
    ):
        answer = server.call("GET", path)
        assert (answer.status, answer.headers["location"]) == (307, cleaned)
    assert answer.text == '<a href="/">Temporary Redirect</a>.\n\n'
    assert server.call("POST", "/../..", b"").body == b""
    assert server.call("GET", f"{kv}/key/.hidden").status == 404
    assert server.call("GET", f"{kv}/keyrange/%2F%2F/z").status == 400


def test_what_no_token_service_can_give_is_refused_clearly(server):
    answer = server.call("GET", "/api/server/token")
    assert answer.status == 400
    assert "asks for none" in answer.text
    assert server.ok("POST", "/api/server/reload-metadata").body == b""
    assert server.ok("GET", "/interface/version").body == b"v1\n"
    description = server.ok("GET", "/interface")
    assert description.headers["content-type"] == "application/raml+yaml"
    assert description.text.startswith("#%RAML 0.8\n")


def test_read_only_servers_change_nothing(run_server, tmp_path):
    data = tmp_path / "data"
    with run_server(Settings(data=data)) as live:
        root = live.new_repo()
        kv = live.new_instance(root, "keyvalue", "kv")
    settings = Settings(data=data, mode="readonly", admin_token="secret")
    with run_server(settings) as live:
        assert live.ok("GET", "/api/server/info").json()["Mode"] == "read only"
        for method, path in (
            ("POST", f"{kv}/key/a"),
            ("DELETE", f"{kv}/key/a"),
            ("POST", f"/api/node/{root}/note"),
            ("POST", f"/api/repo/{root}/instance"),
            ("POST", "/api/repos"),
        ):
            answer = live.call(method, path, b"{}")
            assert answer.status == 400
            assert "read-only" in answer.text
        live.ok("POST", f"{kv}/key/a?{ADMIN}", b"by an admin")
        assert live.call("POST", f"/api/repos?{ADMIN}", b"{}").status == 400
        assert live.ok("GET", f"{kv}/key/a").body == b"by an admin"


def test_full_write_servers_write_into_committed_versions(run_server, tmp_path):
    with run_server(Settings(data=tmp_path / "data", mode="fullwrite")) as live:
        root = live.new_repo()
        kv = live.new_instance(root, "keyvalue", "kv")
        live.commit(root)
        live.ok("POST", f"{kv}/key/a", b"late")
        assert live.ok("GET", f"{kv}/key/a").body == b"late"


def test_timing_is_allowed_where_it_is_set(run_server, tmp_path):
    with run_server(Settings(data=tmp_path / "data", allow_timing=True)) as live:
        kv = live.new_instance(live.new_repo(), "keyvalue", "kv")
        assert live.ok("GET", f"{kv}/keys").headers["timing-allow-origin"] == "*"
        assert "timing-allow-origin" not in live.ok("GET", "/api/server/info").headers


def test_too_many_throttled_operations_are_refused():
    monitor = Monitor(_Clock(), max_throttled=2)
    full = pytest.raises(Overloaded, match=r"running 2 throttled operations \(max = 2\)")
    with monitor.throttle(), monitor.throttle(), full, monitor.throttle():
        raise AssertionError("a third one ran")
    with monitor.throttle():
        assert monitor.throttled == 1
    with pytest.raises(InvalidRequest):
        monitor.set_max_throttled(0)


class _Clock:
    def now_ns(self) -> int:
        return time.time_ns()

    def new_uuid(self) -> str:
        return "0" * 32


def test_throttled_requests_are_answered_503(server):
    kv = server.new_instance(server.new_repo(), "keyvalue", "kv")
    server.ok("POST", f"{kv}/key/a", b"1")
    assert len(server.ok("GET", f"{kv}/mutations?throttle=true").json()) == 1
    answers = []

    def ask() -> None:
        answers.append(server.call("GET", f"{kv}/mutations?throttle=on"))

    threads = [threading.Thread(target=ask) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = {answer.status for answer in answers}
    assert statuses <= {200, 503}
    assert 200 in statuses
    for answer in answers:
        if answer.status == 503:
            assert answer.body == b"Server already running 1 throttled operations (max = 1)\n"
        else:
            assert len(json.loads(answer.body)) == 1


def test_a_body_over_the_limit_is_refused_and_the_server_goes_on(run_server, tmp_path):
    with run_server(Settings(data=tmp_path / "data", max_body_bytes=100_000)) as live:
        kv = live.new_instance(live.new_repo(), "keyvalue", "kv")
        live.ok("POST", f"{kv}/key/a", b"x" * 100_000)
        for size in (100_001, 10_000_000):
            # The server may hang up before all is sent.
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                assert live.call("POST", f"{kv}/key/b", b"x" * size).status == 413
        assert live.ok("GET", f"{kv}/keys").json() == ["a"]
