import pytest

VALUES = "/kv/keyrangevalues/a/zz?json=true"


@pytest.fixture
def fork(server):
    """A committed root with some keys, and two committed branches a and b that changed them."""
    root = server.new_repo()
    server.new_instance(root, "keyvalue", "kv")
    server.new_instance(root, "keyvalue", "other")
    put(server, root, both="0", left="0", right="0", gone="0", quiet="0", kept="0")
    server.commit(root)
    a, b = (branch(server, root, name) for name in "ab")
    put(server, a, both="1", left="1", new="1", same="9", kept="1")
    server.ok("DELETE", f"/api/node/{a}/kv/key/gone")
    put(server, b, both="2", right="2", new="2", same="9")
    server.ok("DELETE", f"/api/node/{b}/kv/key/kept")
    put(server, a, "other", x="1")
    put(server, b, "other", x="2")
    server.commit(a)
    server.commit(b)
    return root, a, b


def put(server, uuid, instance="kv", **values):
    for key, value in values.items():
        server.ok("POST", f"/api/node/{uuid}/{instance}/key/{key}", value.encode())


def branch(server, uuid, name, **more):
    body = {"branch": name, **more}
    return server.ok("POST", f"/api/node/{uuid}/branch", json_body=body).json()["child"]


def merge(server, root, *parents, **more):
    body = {"mergeType": "conflict-free", "parents": list(parents), "note": "merged", **more}
    return server.call("POST", f"/api/repo/{root}/merge", json_body=body)


def resolve(server, root, *parents, data=("kv",), **more):
    body = {"data": list(data), "parents": list(parents), "note": "resolved", **more}
    return server.call("POST", f"/api/repo/{root}/resolve", json_body=body)


def values(server, uuid):
    return server.ok("GET", f"/api/node/{uuid}{VALUES}").json()


def nodes(server, root):
    return server.ok("GET", f"/api/repo/{root}/info").json()["DAG"]["Nodes"]


QUIET = {"left": 1, "right": 2, "quiet": 0, "same": 9, "kept": 1}


def test_a_merge_takes_each_change_and_reports_the_conflicts(server, fork):
    root, a, b = fork
    answer = merge(server, root, a[:12], f"{root[:9]}:b").json()
    assert answer["conflicts"] == {"kv": ["both", "new"], "other": ["x"]}
    child = answer["child"]
    node = nodes(server, root)[child]
    assert (node["Branch"], node["Note"], node["Locked"]) == ("", "merged", False)
    by_id = {one["VersionID"]: uuid for uuid, one in nodes(server, root).items()}
    assert [by_id[parent] for parent in node["Parents"]] == [a, b]
    assert values(server, child) == QUIET
    for key in ("both", "new"):
        refused = server.call("GET", f"/api/node/{child}/kv/key/{key}")
        assert refused.status != 200
        assert key in refused.text
    assert server.call("GET", f"/api/node/{child}/kv/key/gone").status == 404
    assert server.ok("GET", f"/api/repo/{child}/conflicts").json() == answer["conflicts"]
    put(server, child, both="3")
    server.ok("DELETE", f"/api/node/{child}/kv/key/new")
    assert values(server, child) == {**QUIET, "both": 3}
    assert server.ok("GET", f"/api/repo/{child}/conflicts").json() == {"other": ["x"]}
    assert server.ok("GET", f"/api/repo/{a}/conflicts").text == "{}"


def test_the_order_of_parents_does_not_change_what_a_merge_reads(server, fork):
    root, a, b = fork
    one, two = merge(server, root, a, b).json(), merge(server, root, b, a).json()
    assert values(server, one["child"]) == values(server, two["child"]) == QUIET


def test_a_merge_without_conflicts_answers_nothing_but_the_child(server):
    root = server.new_repo()
    server.new_instance(root, "keyvalue", "kv")
    put(server, root, base="0")
    server.commit(root)
    a, b = branch(server, root, "a"), branch(server, root, "b")
    put(server, a, base="1")
    server.commit(a)
    server.commit(b)
    for parents in ((a, b), (b, a)):
        answer = merge(server, root, *parents)
        assert list(answer.json()) == ["child"]
        assert answer.text.startswith('{"child": "')
        assert values(server, answer.json()["child"]) == {"base": 1}


def test_a_refused_merge_leaves_nothing(server, fork, events):
    root, a, b = fork
    stranger = server.new_repo()
    server.commit(stranger)
    opened = branch(server, root, "open")
    before, shown = events(root), nodes(server, root)
    for parents in (
        *((a,), (), (a, "0" * 32), ("0" * 32, a), (a, ""), (a, f"{root}:nothing")),
        *((a, opened), (opened, a), (a, stranger), (a, a), (a, a[:12])),
    ):
        assert merge(server, root, *parents).status == 400
        assert resolve(server, root, *parents).status == 400
    assert merge(server, root, a, b, mergeType="other").status == 400
    assert merge(server, root, a, b, uuid=root).status == 400
    assert merge(server, root, a, b, uuid="short").status == 400
    assert merge(server, root, a, b, branch="b").status == 400
    for bad in ([], ["nothing"], ["kv", "nothing"], "kv"):
        body = {"data": bad, "parents": [a, b]}
        assert server.call("POST", f"/api/repo/{root}/resolve", json_body=body).status == 400
    for path in ("merge", "resolve"):
        assert server.call("POST", f"/api/repo/{root}/{path}", b"").status == 400
        assert server.call("GET", f"/api/repo/{root}/{path}").status == 404
    assert events(root) == before
    assert nodes(server, root) == shown


def test_a_merge_may_have_a_uuid_and_a_branch_of_its_own(server, fork):
    root, a, b = fork
    uuid = "1234567890abcdef" * 2
    answer = merge(server, root, a, b, uuid=uuid, branch="joined")
    assert answer.json()["child"] == uuid
    assert nodes(server, root)[uuid]["Branch"] == "joined"
    assert server.engine.resolve(f"{root}:joined")[2].uuid == uuid
    followed = merge(server, root, a, b, branch="a").json()["child"]
    assert nodes(server, root)[followed]["Branch"] == "a"


def test_a_merge_is_the_leaf_of_master_if_it_descends_from_it(server, fork):
    root, a, b = fork

    def leaf():
        line = server.ok("GET", f"/api/repo/{root}/branch-versions/master").json()
        assert server.engine.resolve(f"{root}:master")[2].uuid == line[0]
        return line[0]

    assert leaf() == root
    first = merge(server, root, a, b).json()["child"]
    assert leaf() == first
    server.commit(first)
    tip = server.new_version(first)
    assert leaf() == tip
    aside = merge(server, root, b, a).json()["child"]
    assert leaf() == tip
    server.commit(aside)
    after = server.new_version(aside)
    assert leaf() == after
    for uuid in (tip, after):
        server.commit(uuid)
    assert leaf() == after
    last = merge(server, root, tip, after).json()["child"]
    assert leaf() == last


def test_a_resolve_gives_each_conflict_the_first_parents_value_and_nothing_else(server, fork):
    root, a, b = fork
    first = resolve(server, root, a, b, data=("kv", "other"))
    assert list(first.json()) == ["child"]
    assert values(server, first.json()["child"]) == {**QUIET, "both": 1, "new": 1}
    second = resolve(server, root, b, a).json()
    assert values(server, second["child"]) == {**QUIET, "both": 2, "new": 2}
    assert second["conflicts"] == {"other": ["x"]}
    assert server.call("GET", f"/api/node/{second['child']}/other/key/x").status == 400
    assert values(server, a)["both"] == 1
    assert values(server, b)["both"] == 2
    assert len(nodes(server, root)) == 5


def test_a_resolve_of_three_parents_lets_the_first_that_changed_something_win(server, fork):
    root, a, b = fork
    c = branch(server, root, "c")
    put(server, c, third="3", both="3")
    server.commit(c)
    child = resolve(server, root, c, b, a).json()["child"]
    assert values(server, child) == {**QUIET, "third": 3, "both": 3, "new": 2}


def test_conflicts_below_a_merge_are_resolved_by_its_own_first_parent(server, fork):
    root, a, b = fork
    merged = merge(server, root, b, a).json()["child"]
    server.commit(merged)
    c = branch(server, root, "c")
    put(server, c, quiet="3")
    server.commit(c)
    child = resolve(server, root, merged, c).json()["child"]
    assert values(server, child) == {**QUIET, "quiet": 3, "both": 2, "new": 2}


def test_a_resolve_is_recorded_as_writes_to_the_child(server, fork):
    root, a, b = fork
    answer = resolve(server, root, a, b)
    child = answer.json()["child"]
    records = server.ok("GET", f"/api/node/{child}/kv/mutations").json()
    assert [(one["Action"], one["Key"], one["UUID"]) for one in records] == [
        ("postkv", "both", child),
        ("postkv", "new", child),
    ]
    assert server.ok("GET", f"/api/repo/{root}/info").json()["MutationID"] > 1_000_000_000


def test_a_dry_run_of_a_resolve_tells_what_would_win(server, fork, events):
    root, a, b = fork
    before = events(root)
    body = {"data": ["kv"], "parents": [a, b]}
    path = f"/api/repo/{root}/resolve?dryrun=true"
    told = server.ok("POST", path, json_body=body).json()
    assert [one["event"] for one in told["events"]] == ["version.created", "keyvalue.put"]
    assert told["events"][1]["facts"]["keys"] == ["both", "new"]
    assert events(root) == before


def test_values_in_packs_are_resolved_without_being_copied(server):
    root = server.new_repo()
    server.new_instance(root, "keyvalue", "kv")
    server.commit(root)
    a, b = branch(server, root, "a"), branch(server, root, "b")
    large = {a: b"a" * 5000, b: b"b" * 5000}
    for uuid, value in large.items():
        server.ok("POST", f"/api/node/{uuid}/kv/key/k", value)
        server.commit(uuid)
    child = resolve(server, root, b, a).json()["child"]
    assert server.ok("GET", f"/api/node/{child}/kv/key/k").body == large[b]


def test_unversioned_instances_have_no_conflicts(server):
    root = server.new_repo()
    server.new_instance(root, "keyvalue", "one", versioned="false")
    server.commit(root)
    a, b = branch(server, root, "a"), branch(server, root, "b")
    for uuid in (a, b):
        server.ok("POST", f"/api/node/{uuid}/one/key/k", uuid.encode())
        server.commit(uuid)
    child = resolve(server, root, a, b, data=("one",)).json()["child"]
    assert server.ok("GET", f"/api/node/{child}/one/key/k").text == b
    assert list(merge(server, root, a, b).json()) == ["child"]
