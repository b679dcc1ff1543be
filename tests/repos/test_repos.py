import threading

import pytest

from dvid_es.settings import Settings

CREATE = "/api/repos"


def info(server, uuid):
    return server.ok("GET", f"/api/repo/{uuid}/info").json()


def test_a_new_repository_has_a_random_root_and_every_repository_another_one(server):
    roots = {server.new_repo() for _ in range(5)}
    assert len(roots) == 5
    assert all(len(root) == 32 and int(root, 16) >= 0 for root in roots)
    assert roots <= set(server.ok("GET", "/api/repos/info").json())


def test_a_given_root_is_the_root_and_is_taken_from_then_on(server, events):
    root = "ab" * 16
    answer = server.ok("POST", CREATE, json_body={"ROOT": root, "Alias": "mine"})
    assert answer.text == f'{{"root": "{root}"}}'
    assert info(server, root)["Alias"] == "mine"
    assert info(server, root)["DAG"]["Root"] == root
    before = events(root)
    refused = server.call("POST", CREATE, json_body={"root": root, "alias": "yours"})
    assert (refused.status, refused.text) == (
        400,
        "UUID already exists in datastore (/api/repos).\n",
    )
    assert events(root) == before
    assert info(server, root)["Alias"] == "mine"


def test_a_root_may_be_no_version_of_another_repository(server, root):
    server.commit(root)
    child = server.new_version(root)
    server.ok("POST", f"/api/node/{root}/tag", json_body={"tag": "f" * 32})
    for taken in (child, "f" * 32):
        assert server.call("POST", CREATE, json_body={"root": taken}).status == 400
        assert server.engine.resolve(taken)[1].root == root


@pytest.mark.parametrize("bad", ["x" * 32, "ab", "../etc", "a" * 33, "é" * 32])
def test_a_root_has_32_hexadecimal_digits(server, bad):
    before = len(server.ok("GET", "/api/repos/info").json())
    assert "Bad UUID provided" in server.call("POST", CREATE, json_body={"root": bad}).text
    assert len(server.ok("GET", "/api/repos/info").json()) == before


def test_a_refused_creation_leaves_no_folder_and_no_stream(server, settings):
    streams = server.engine.streams
    before = (sorted(path.name for path in streams.folder.iterdir()), len(streams.all()))
    for body in ({"root": "x" * 32}, {"alias": 1}, {"root": 1}, {"passcode": []}):
        assert server.call("POST", CREATE, json_body=body).status == 400
    assert server.ok("POST", CREATE, json_body={"root": "c" * 32}, dryrun="true").json()["dryrun"]
    assert (sorted(path.name for path in streams.folder.iterdir()), len(streams.all())) == before
    assert server.new_repo(root="c" * 32) == "c" * 32


def test_two_creations_of_one_root_at_once_make_one_repository(server):
    root = "d" * 32
    found = []

    def create():
        found.append(server.call("POST", CREATE, json_body={"root": root}).status)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [200] + [400] * 7
    assert info(server, root)["Root"] == root


def test_a_creation_with_an_idempotency_key_is_done_once(server):
    headers = {"Idempotency-Key": "make it once"}
    first = server.ok("POST", CREATE, json_body={"alias": "once"}, headers=headers)
    again = server.ok("POST", CREATE, json_body={"alias": "once"}, headers=headers)
    assert first.body == again.body
    given = {"root": "e" * 32}
    headers = {"Idempotency-Key": "another"}
    assert server.ok("POST", CREATE, json_body=given, headers=headers).json() == given
    assert server.ok("POST", CREATE, json_body=given, headers=headers).json() == given
    assert server.call("POST", CREATE, json_body=given).status == 400


def test_the_description_of_a_new_repository_is_dvids(server):
    root = server.new_repo(alias="a <b>", description="d", passcode="secret")
    answer = server.ok("GET", f"/api/repo/{root}/info")
    assert answer.headers["content-type"] == "application/json"
    assert '"Alias":"a \\u003cb\\u003e"' in answer.text
    assert "secret" not in answer.text
    found = answer.json()
    assert list(found) == [
        *("Root", "Alias", "Description", "Log", "Properties", "DataInstances", "DAG"),
        *("MutationID", "SavedMutationID", "Created", "Updated"),
    ]
    node = found["DAG"]["Nodes"][root]
    assert list(node) == [
        *("Branch", "Note", "Log", "UUID", "VersionID", "Locked", "Parents", "Children"),
        *("Created", "Updated"),
    ]
    assert (node["VersionID"], node["Parents"], node["Children"]) == (1, [], [])
    assert found["MutationID"] == 1_000_000_000
    assert found["SavedMutationID"] == 1_000_000_100
    assert found["Created"].endswith("Z")


def test_alias_and_description_change_one_by_one(server, root):
    path = f"/api/repo/{root}/info"
    server.ok("POST", path, json_body={"alias": "one", "description": "two"})
    server.ok("POST", path, json_body={"description": "three"})
    found = info(server, root)
    assert (found["Alias"], found["Description"]) == ("one", "three")
    server.ok("POST", path, b"")
    assert server.call("POST", path, json_body={"alias": 1}).status == 400
    assert info(server, root)["Alias"] == "one"


def test_head_tells_whether_a_repository_is_there(server, root):
    assert server.call("HEAD", f"/api/repo/{root[:12]}").status == 200
    assert server.call("HEAD", f"/api/repo/{'9' * 32}").status == 400
    assert server.call("GET", f"/api/repo/{root}").status == 404


def test_the_log_of_a_repository_grows_also_while_its_version_is_locked(server, root):
    server.commit(root)
    path = f"/api/repo/{root}/log"
    server.ok("POST", path, json_body={"log": ["one", "two"]})
    server.ok("POST", path, json_body={"log": ["  three"]})
    lines = server.ok("GET", path).json()["log"]
    assert [line.split("  ", 1)[1] for line in lines] == ["one", "two", "  three"]
    assert lines[0].split("  ")[0] == lines[1].split("  ")[0]
    assert server.call("POST", path, json_body={}).status == 400


def test_an_empty_server_has_no_repositories(run_server, settings):
    with run_server(settings) as live:
        assert live.ok("GET", "/api/repos/info").text == "{}"


def test_dvids_rule_for_creating_repositories_can_be_restored(run_server, tmp_path):
    strict = Settings(data=tmp_path / "d", admin_token="secret", open_repo_creation=False)
    with run_server(strict) as live:
        assert live.call("POST", CREATE, json_body={}).status == 400
        assert live.call("POST", f"{CREATE}?admintoken=wrong", json_body={}).status == 400
        live.ok("POST", f"{CREATE}?admintoken=secret", json_body={})


def test_nobody_creates_or_deletes_on_a_read_only_server(run_server, tmp_path):
    settings = Settings(data=tmp_path / "d", admin_token="secret", mode="readonly")
    with run_server(settings) as live:
        for path in (CREATE, f"{CREATE}/undelete", f"{CREATE}/purge"):
            refused = live.call("POST", f"{path}?admintoken=secret", json_body={"root": "a" * 32})
            assert "read-only" in refused.text


def test_everything_is_as_it_was_after_a_restart(run_server, settings):
    with run_server(settings) as live:
        root = live.new_repo(alias="kept", description="too")
        live.new_instance(root, "keyvalue", "kv", tags="a=b", versioned="false")
        live.ok("POST", f"/api/node/{root}/note", json_body={"note": "n"})
        live.commit(root)
        live.ok("POST", f"/api/node/{root}/tag", json_body={"tag": "v1"})
        live.ok("POST", f"/api/node/{root}/branch", json_body={"branch": "side"})
        before = live.ok("GET", "/api/repos/info").body
    with run_server(settings) as live:
        assert live.ok("GET", "/api/repos/info").body == before
        assert live.ok("GET", f"/api/node/{root[:9]}:tag-v1/status").json() == {"Locked": True}


def test_text_that_no_utf8_can_hold_is_replaced_and_harms_nobody(server, root):
    body = b'{"alias": "half \\ud800 pair", "description": "\\ud83d\\ude00 whole"}'
    server.ok("POST", f"/api/repo/{root}/info", body)
    found = info(server, root)
    assert (found["Alias"], found["Description"]) == (
        "half \N{REPLACEMENT CHARACTER} pair",
        "😀 whole",
    )
    server.ok("POST", f"/api/repo/{root}/info", json_body={"alias": "still writing"})


def test_an_event_too_large_for_a_log_is_refused_and_writing_goes_on(server, root, events):
    before = events(root)
    refused = server.call("POST", f"/api/repo/{root}/info", json_body={"alias": "x" * (65 << 20)})
    assert refused.status == 400
    assert "limit" in refused.text
    assert events(root) == before
    server.ok("POST", f"/api/repo/{root}/info", json_body={"alias": "small"})


@pytest.mark.parametrize("body", [b"{", b"[1]", b'{"alias": {"a": 1}}', b'"a"', b"x{}"])
def test_what_is_no_json_object_of_text_is_refused(server, root, body):
    assert server.call("POST", f"/api/repo/{root}/info", body).status == 400
    assert server.call("POST", CREATE, body).status == 400
