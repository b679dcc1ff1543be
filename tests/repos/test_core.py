"""What every write and read gets from the core, seen at the endpoints of repositories."""

import shutil
import threading

import lmdb
import pytest

ADMIN = {"admintoken": "secret"}


def sequence(answer):
    return int(answer.headers["x-dvid-es-seq"])


def writes(root):
    """Every kind of write to a repository with one instance, kv, and its root version open."""
    node, repo = f"/api/node/{root}", f"/api/repo/{root}"
    sure = {"imsure": "true", **ADMIN}
    return [
        ("POST", f"{repo}/info", {"alias": "dry"}, {}),
        ("POST", f"{repo}/log", {"log": ["dry"]}, {}),
        ("POST", f"{repo}/instance", {"typename": "keyvalue", "dataname": "dry"}, {}),
        ("POST", f"{repo}/rename", {"old": "kv", "new": "dry"}, ADMIN),
        ("DELETE", f"{repo}/kv", None, sure),
        ("DELETE", repo, None, sure),
        ("POST", f"{node}/note", {"note": "dry"}, {}),
        ("POST", f"{node}/log", {"log": ["dry"]}, {}),
        ("POST", f"{node}/kv/tags", {"dry": "run"}, {}),
        ("POST", f"{node}/kv/blobstore", {"dry": "run"}, {}),
        ("POST", f"{node}/commit", {}, {}),
    ]


def test_a_dry_run_tells_answer_and_events_and_changes_nothing(server, root, kv, events):
    assert kv
    before = (events(root), server.ok("GET", "/api/repos/info").body)
    for method, path, body, query in writes(root):
        told = server.ok(method, path, json_body=body, dryrun="true", **query).json()
        assert told["dryrun"] is True
        assert [one["offset"] for one in told["events"]] == [before[0]]
    assert (events(root), server.ok("GET", "/api/repos/info").body) == before
    for method, path, body, query in writes(root)[6:]:
        server.ok(method, path, json_body=body, **query)


def test_a_dry_run_of_a_new_version_tells_its_ordinal_and_gives_nothing_away(server, root):
    server.commit(root)
    for _ in range(3):
        told = server.ok("POST", f"/api/node/{root}/newversion?dryrun=true", json_body={}).json()
        assert told["events"][0]["facts"]["id"] == 2
    child = server.new_version(root)
    assert server.engine.resolve(child)[2].id == 2


def test_a_repeated_request_with_a_key_gets_the_first_answer_and_happens_once(server, root, events):
    server.commit(root)
    before = events(root)
    headers = {"Idempotency-Key": "a new version, once"}
    answers = {
        server.ok("POST", f"/api/node/{root}/newversion", json_body={}, headers=headers).body
        for _ in range(3)
    }
    assert len(answers) == 1
    assert events(root) == before + 1


def test_the_key_is_kept_over_a_restart(run_server, settings):
    headers = {"Idempotency-Key": "k"}
    with run_server(settings) as live:
        root = live.new_repo()
        live.commit(root)
        path = f"/api/node/{root}/branch"
        first = live.ok("POST", path, json_body={"branch": "b"}, headers=headers)
    with run_server(settings) as live:
        again = live.ok("POST", path, json_body={"branch": "b"}, headers=headers)
        assert again.body == first.body


def test_refused_requests_burn_no_ids(server, root, kv, events):
    server.commit(root)
    before = events(root)
    for body in ({"uuid": "short"}, {"uuid": root}, {"note": 1}):
        assert server.call("POST", f"/api/node/{root}/newversion", json_body=body).status == 400
    for name in ("kv", "log"):
        body = {"typename": "keyvalue", "dataname": name}
        path = f"/api/repo/{root}/instance?admintoken=secret"
        assert server.call("POST", path, json_body=body).status == 400
    assert events(root) == before
    child = server.new_version(root)
    server.new_instance(child, "keyvalue", "second")
    _, repo, version = server.engine.resolve(child)
    assert (version.id, repo.names["second"].id) == (2, 2)


def test_every_write_tells_its_sequence_and_every_read_the_one_it_saw(server, root, kv):
    first = sequence(server.ok("POST", f"{kv}/key/a", b"one"))
    second = sequence(server.ok("POST", f"/api/node/{root}/note", json_body={"note": "n"}))
    assert second == first + 1
    for path in (f"{kv}/key/a", f"/api/node/{root}/note", f"/api/repo/{root}/info", f"{kv}/info"):
        assert sequence(server.ok("GET", path)) == second


def test_a_read_as_of_a_sequence_sees_the_data_of_then(server, root, kv):
    first = sequence(server.ok("POST", f"{kv}/key/a", b"one"))
    server.ok("POST", f"{kv}/key/a", b"two")
    server.commit(root)
    child = server.new_version(root)
    server.ok("DELETE", f"/api/node/{child}/kv/key/a")
    for uuid in (root, child):
        assert server.ok("GET", f"/api/node/{uuid}/kv/key/a?at={first}").body == b"one"
    assert server.call("GET", f"{kv}/key/a?at={first - 1}").status == 404
    assert server.call("GET", f"{kv}/key/a?at=x").status == 400


def test_a_read_waits_for_the_sequence_that_it_is_to_see(server, root, kv):
    now = sequence(server.ok("POST", f"{kv}/key/a", b"one"))
    found = []
    reader = threading.Thread(
        target=lambda: found.append(server.ok("GET", f"{kv}/key/a?min_seq={now + 1}").body)
    )
    reader.start()
    server.ok("POST", f"{kv}/key/a", b"two")
    reader.join(20)
    assert found == [b"two"]


def test_who_asked_is_in_every_event(server, root):
    server.ok("POST", f"/api/repo/{root}/log?u=kat&app=test", json_body={"log": ["x"]})
    told = server.ok(
        "POST", f"/api/node/{root}/note?u=kat&app=test&dryrun=true", json_body={"note": "x"}
    )
    (event,) = told.json()["events"]
    assert (event["user"], event["app"], event["version"]) == ("kat", "test", 1)


def all_rows(folder):
    with lmdb.open(str(folder), readonly=True, lock=False) as env, env.begin() as txn:
        return list(txn.cursor())


@pytest.mark.parametrize("kept", [True, False])
def test_the_log_alone_gives_every_row_again(run_server, settings, kept):
    with run_server(settings) as live:
        root = live.new_repo(alias="a", passcode="p")
        kv = live.new_instance(root, "keyvalue", "kv", tags="a=b")
        live.new_instance(root, "keyvalue", "gone")
        live.ok("POST", f"{kv}/key/a", b"x" * 5000)
        live.ok("POST", f"/api/node/{root}/gone/key/a", b"y")
        live.ok("POST", f"{kv}/blobstore", b"blob" * 1000, headers={"Idempotency-Key": "k"})
        live.ok("POST", f"/api/node/{root}/log", json_body={"log": ["1", "2"]})
        code = {"passcode": "p", **ADMIN}
        live.ok("DELETE", f"/api/repo/{root}/gone", imsure="true", **code)
        live.ok("POST", f"/api/repo/{root}/purge", json_body={"data": "gone"}, **code)
        live.ok("POST", f"/api/repo/{root}/rename", json_body={"old": "kv", "new": "k2"}, **code)
        live.commit(root)
        sides = []
        for name in "ab":
            answer = live.ok("POST", f"/api/node/{root}/branch", json_body={"branch": name})
            sides.append(answer.json()["child"])
            live.ok("POST", f"/api/node/{sides[-1]}/k2/key/a", name.encode())
            live.commit(sides[-1])
        body = {"data": ["k2"], "parents": sides}
        live.ok("POST", f"/api/repo/{root}/resolve", json_body=body)
        info = live.ok("GET", "/api/repos/info").body
    rows = all_rows(settings.data / "projections")
    assert len(rows) > 10
    if not kept:
        shutil.rmtree(settings.data / "projections")
    with run_server(settings) as live:
        assert live.ok("GET", "/api/repos/info").body == info
    assert all_rows(settings.data / "projections") == rows
