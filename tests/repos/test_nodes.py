import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from dvid_es.ids import FIRST_MUTATION_ID

ADMIN = {"admintoken": "secret"}


def post(server, uuid, action, body=None, **query):
    return server.call("POST", f"/api/node/{uuid}/{action}", json_body=body, **query)


def now_utc(server):
    seconds, nanoseconds = divmod(server.engine.clock.now_ns(), 10**9)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000)


def nodes(server, uuid):
    return server.ok("GET", f"/api/repo/{uuid}/info").json()["DAG"]["Nodes"]


def test_a_note_is_replaced_and_a_refused_request_leaves_it(server, root):
    path = f"/api/node/{root}/note"
    assert server.ok("GET", path).text == '{"note":""}'
    server.ok("POST", path, json_body={"note": "kept <&>"})
    for bad in ({}, {"note": 7}, {"text": "x"}, {"Note": "x"}, {"note": "x", "log": ["x"]}):
        assert post(server, root, "note", bad).status == 400
    assert server.ok("GET", path).text == '{"note":"kept \\u003c\\u0026\\u003e"}'


def test_lines_of_a_log_are_appended_under_one_time_a_request(server, root):
    path = f"/api/node/{root}/log"
    server.ok("POST", path, json_body={"log": ["a", "b", "c"]})
    server.ok("POST", path, json_body={"log": ["d"]})
    lines = server.ok("GET", path).json()["log"]
    assert [line.split("  ")[1] for line in lines] == list("abcd")
    assert len({line.split("  ")[0] for line in lines[:3]}) == 1
    for bad in ({"log": "a"}, {"log": [1]}, {}, {"Log": ["a"]}, {"log": ["a"], "note": "a"}):
        assert post(server, root, "log", bad).status == 400
    server.ok("POST", path, json_body={"log": None})
    assert len(server.ok("GET", path).json()["log"]) == 4


def test_a_commit_locks_once_and_for_everybody(server, root):
    for word in ("status", "commit"):
        assert server.ok("GET", f"/api/node/{root}/{word}").text == '{"Locked":false}'
    answer = post(server, root, "commit", {"note": "done", "log": ["line"]})
    assert answer.text == f'{{"committed": "{root}"}}'
    assert server.ok("GET", f"/api/node/{root}/status").text == '{"Locked":true}'
    assert server.ok("GET", f"/api/node/{root}/note").json() == {"note": "done"}
    assert post(server, root, "commit", {}).status == 400
    assert post(server, root, "commit", {}, **ADMIN).status == 400


def test_refused_commits_leave_a_version_open_and_no_body_is_enough(server, root):
    for bad in (b"{", b'{"note": 3}', b'{"log": "x"}', b"[]"):
        assert server.call("POST", f"/api/node/{root}/commit", bad).status == 400
    assert server.ok("GET", f"/api/node/{root}/status").json() == {"Locked": False}
    server.ok("POST", f"/api/node/{root}/commit")


def test_only_an_admin_changes_a_committed_version(server, root, kv):
    server.commit(root)
    log, note = {"log": ["late"]}, {"note": "late"}
    for path, body in (("log", log), ("note", note), ("kv/key/a", note)):
        path = f"/api/node/{root}/{path}"
        refused = server.call("POST", path, json_body=body)
        assert refused.status == 400
        assert "locked node" in refused.text
        server.ok("POST", path, json_body=body, **ADMIN)
    assert server.ok("GET", f"/api/node/{root}/note").json() == {"note": "late"}


def test_a_full_write_server_lets_everybody_change_committed_versions(run_server, tmp_path):
    from dvid_es.settings import Settings

    with run_server(Settings(data=tmp_path / "d", mode="fullwrite")) as live:
        root = live.new_repo()
        live.commit(root)
        path = live.new_instance(root, "keyvalue", "kv")
        live.ok("POST", f"{path}/key/a", b"late")
        live.ok("POST", f"/api/node/{root}/note", json_body={"note": "late"})


def test_only_committed_versions_have_children(server, root):
    for action, body in (("newversion", {}), ("branch", {"branch": "b"}), ("tag", {"tag": "t"})):
        refused = post(server, root, action, body)
        assert refused.status == 400
        assert "can't branch an unlocked node" in refused.text
    assert len(nodes(server, root)) == 1


def test_a_version_has_one_child_on_its_branch(server, root):
    server.commit(root)
    child = server.new_version(root)
    assert "branch already exists" in post(server, root, "newversion", {}).text
    assert nodes(server, root)[child]["Branch"] == ""


def test_branch_names_are_unique_in_a_repository(server, root):
    server.commit(root)
    first = post(server, root, "branch", {"branch": "a"}).json()["child"]
    post(server, root, "branch", {"branch": "A"}).json()
    assert post(server, root, "branch", {"branch": "a"}).status == 400
    server.commit(first)
    assert post(server, first, "branch", {"branch": "A"}).status == 400
    again = post(server, first, "branch", {"branch": "a"}).json()["child"]
    assert nodes(server, root)[again]["Branch"] == "a"
    other = server.new_repo()
    server.commit(other)
    server.ok("POST", f"/api/node/{other}/branch", json_body={"branch": "a"})


@pytest.mark.parametrize("name", ["", "master"])
def test_nobody_makes_a_branch_called_master(server, root, name):
    server.commit(root)
    refused = post(server, root, "branch", {"branch": name})
    assert (refused.status, "Cannot create a master branch" in refused.text) == (400, True)


def test_a_branch_without_a_name_is_a_new_version(server, root):
    server.commit(root)
    child = post(server, root, "branch", {"note": "n"}).json()["child"]
    assert nodes(server, root)[child]["Branch"] == ""
    assert post(server, root, "branch", {}).status == 400


def test_a_client_may_give_the_uuid_of_a_child(server, root):
    server.commit(root)
    for bad in ("a" * 31, "a" * 33, "x" * 32, "not-hex", 32):
        assert post(server, root, "newversion", {"uuid": bad}).status == 400
    uuid = "0123456789ABCDEF" * 2
    assert post(server, root, "newversion", {"UUID": uuid, "x": 1}).json() == {"child": uuid}
    assert post(server, uuid.lower(), "commit", {}).status == 400


def test_a_uuid_in_use_anywhere_is_not_given_again(server, root, events):
    other = server.new_repo()
    server.commit(other)
    server.commit(root)
    before = events(other)
    for taken in (root, other):
        for action in ("newversion", "branch"):
            refused = post(server, other, action, {"uuid": taken, "branch": "b"})
            assert refused.status == 400
            assert "already exists" in refused.text
    assert events(other) == before
    assert server.engine.resolve(root)[1].root == root


def test_one_uuid_asked_for_in_two_repositories_at_once_is_given_once(server):
    for round_number in range(5):
        roots = [server.new_repo() for _ in range(2)]
        for root in roots:
            server.commit(root)
        wanted = f"{round_number:02d}" * 16
        with ThreadPoolExecutor(8) as pool:
            asked = [
                pool.submit(post, server, r, "newversion", {"uuid": wanted}) for r in roots * 4
            ]
            found = [one.result().status for one in asked]
        assert sorted(found) == [200] + [400] * 7


def test_of_many_simultaneous_children_exactly_one_is_made(server, root, events):
    server.commit(root)
    before = events(root)
    barrier = threading.Barrier(8)

    def ask(_):
        barrier.wait()
        return post(server, root, "newversion", {}).status

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(ask, range(8))) == [200] + [400] * 7
    assert events(root) == before + 1
    assert sorted(node["VersionID"] for node in nodes(server, root).values()) == [1, 2]


def test_a_tag_is_a_committed_child_named_by_it(server, root, kv):
    server.ok("POST", f"{kv}/key/a", b"tagged")
    server.commit(root)
    tag = f"v1.0-{root[:6]}"
    assert post(server, root, "tag", {"tag": tag, "note": "first release"}).json() == {"child": tag}
    node = nodes(server, root)[tag]
    assert (node["Branch"], node["Locked"], node["Note"]) == (f"tag-{tag}", True, "first release")
    assert node["Log"][0].endswith(f'  Tag of version {root} with "{tag}"')
    assert server.ok("GET", f"/api/node/{tag}/kv/key/a").body == b"tagged"
    bare = f"bare-{root[:6]}"
    post(server, root, "tag", {"tag": bare})
    assert server.ok("GET", f"/api/node/{bare}/note").json() == {
        "note": f'Tag of version {root} with "{bare}"'
    }


def test_tags_are_new_and_can_be_named(server, root):
    server.commit(root)
    other = server.new_repo()
    server.commit(other)
    tag = f"t-{root[:6]}"
    server.ok("POST", f"/api/node/{root}/tag", json_body={"tag": tag})
    for uuid, bad in ((root, tag), (other, tag), (root, ""), (root, "a/b"), (root, "a:b")):
        assert post(server, uuid, "tag", {"tag": bad}).status == 400
    assert post(server, root, "tag", {}).status == 400
    longer = f"{tag}.1"
    server.ok("POST", f"/api/node/{root}/tag", json_body={"tag": longer})
    for name in (tag, longer):
        assert server.ok("GET", f"/api/node/{name}/status").json() == {"Locked": True}


def test_a_child_changes_nothing_in_its_parent(server, root, kv):
    server.ok("POST", f"{kv}/key/a", b"before")
    server.commit(root)
    child = server.new_version(root)
    server.ok("POST", f"/api/node/{child}/kv/key/a", b"after")
    assert server.ok("GET", f"{kv}/key/a").body == b"before"


def test_a_branch_at_a_past_sequence_sees_its_parent_as_it_was(server, root, kv):
    first = int(server.ok("POST", f"{kv}/key/a", b"one").headers["x-dvid-es-seq"])
    server.ok("POST", f"{kv}/key/a", b"two")
    server.ok("POST", f"{kv}/key/b", b"late")
    server.commit(root)
    body = {"branch": "past", "at": first}
    child = post(server, root, "branch", body).json()["child"]
    assert server.ok("GET", f"/api/node/{child}/kv/key/a").body == b"one"
    assert server.ok("GET", f"/api/node/{child}/kv/keys").json() == ["a"]
    for bad in (-1, 10**6, "x", 1.5):
        assert post(server, root, "branch", {"branch": "bad", "at": bad}).status == 400


def test_a_branch_inside_an_open_version_stays_at_its_moment(server, root, kv):
    done = server.ok("POST", f"{kv}/key/a", b"one")
    first = int(done.headers["x-dvid-es-seq"])
    server.ok("POST", f"{kv}/key/a", b"two")
    assert post(server, root, "branch", {"branch": "now"}).status == 400
    assert post(server, root, "newversion", {"at": first}).status == 400
    child = post(server, root, "branch", {"branch": "past", "at": first}).json()["child"]
    late = post(server, root, "branch", {"branch": "late", "at": first + 1}).json()["child"]
    server.ok("POST", f"{kv}/key/a", b"three")
    server.ok("POST", f"/api/node/{child}/kv/key/b", b"own")
    for uuid, value in ((root, b"three"), (child, b"one"), (late, b"two")):
        assert server.ok("GET", f"/api/node/{uuid}/kv/key/a").body == value
    assert server.ok("GET", f"/api/node/{child}/kv/keys").json() == ["a", "b"]
    assert server.ok("GET", f"{kv}/keys").json() == ["a"]


def test_a_branch_is_made_at_a_mutation_or_a_time(server, root, kv):
    seg = server.new_instance(root, "labelmap", "seg", BlockSize="16,16,16")
    server.ok("POST", f"{kv}/key/a", b"one")
    number = FIRST_MUTATION_ID  # nothing else in this repository has taken one
    server.ok("POST", f"{seg}/raw/0_1_2/16_16_16/0_0_0", (7).to_bytes(8, "little") * 16**3)
    server.ok("POST", f"{kv}/key/a", b"two")
    by_mutation = post(server, root, "branch", {"branch": "m", "at": number}).json()["child"]
    assert server.ok("GET", f"/api/node/{by_mutation}/kv/key/a").body == b"one"
    now = str(now_utc(server))
    server.ok("POST", f"{kv}/key/a", b"three")
    by_time = post(server, root, "branch", {"branch": "t", "at": now}).json()["child"]
    assert server.ok("GET", f"/api/node/{by_time}/kv/key/a").body == b"two"
    zulu = now_utc(server).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    latest = post(server, root, "branch", {"branch": "z", "at": zulu}).json()["child"]
    assert server.ok("GET", f"/api/node/{latest}/kv/key/a").body == b"three"
    for bad in (number + 10**6, "1999-01-01T00:00:00Z", "yesterday", ""):
        answer = post(server, root, "branch", {"branch": "bad", "at": bad})
        assert answer.status == 400, bad


def test_versions_are_made_while_others_read(server):
    root = server.new_repo()
    server.new_instance(root, "keyvalue", "kv")
    stop = threading.Event()
    problems = []

    def read():
        while not stop.is_set():
            for path in (f"/api/repo/{root}/info", f"/api/node/{root}/log", "/api/repos/info"):
                answer = server.call("GET", path)
                if answer.status != 200:
                    problems.append(answer.text)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    tip = root
    try:
        for number in range(20):
            server.commit(tip)
            child = server.new_version(tip)
            server.ok("POST", f"/api/node/{tip}/branch", json_body={"branch": f"b{number}"})
            assert server.ok("GET", f"/api/node/{root[:8]}:master/status").json() == {
                "Locked": False
            }
            tip = child
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert not problems
    assert len(nodes(server, root)) == 41


def test_unknown_actions_and_methods_are_not_found(server, root):
    for method, action in (
        ("GET", "nothing"),
        ("POST", "nothing"),
        ("POST", "status"),
        ("DELETE", "commit"),
        ("GET", "newversion"),
        ("GET", "tag"),
    ):
        assert server.call(method, f"/api/node/{root}/{action}", b"").status == 404
