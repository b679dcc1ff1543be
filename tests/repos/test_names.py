import pytest

from dvid_es.errors import InvalidRequest
from dvid_es.settings import Settings


@pytest.fixture
def tree(server):
    """root - m1 - m2 (master), side off m1; each version knows its own name."""
    root = server.new_repo()
    server.new_instance(root, "keyvalue", "kv")
    names = {"root": root}

    def write(name):
        server.ok("POST", f"/api/node/{names[name]}/kv/key/name", name.encode())
        server.commit(names[name])

    write("root")
    names["m1"] = server.new_version(root)
    write("m1")
    names["m2"] = server.new_version(names["m1"])
    body = {"branch": "side"}
    answer = server.ok("POST", f"/api/node/{names['m1']}/branch", json_body=body)
    names["side"] = answer.json()["child"]
    write("side")
    write("m2")
    return names


def where(server, spec):
    return server.call("GET", f"/api/node/{spec}/kv/key/name").text


def test_prefixes_branches_and_steps_back_name_versions(server, tree):
    root = tree["root"]
    short = root[:10]
    assert where(server, short) == "root"
    for prefix in (short, tree["side"], tree["m2"][:12]):
        assert where(server, f"{prefix}:master") == "m2"
        assert where(server, f"{prefix}:side") == "side"
    for back, name in enumerate(("m2", "m1", "root")):
        assert where(server, f"{short}:master~{back}") == name
    for back, name in enumerate(("side", "m1", "root")):
        assert where(server, f"{short}:side~{back}") == name
    assert where(server, f"{short}:") == "root"


@pytest.mark.parametrize(
    "bad",
    [
        *("{r}:master~3", "{r}:master~x", "{r}:master~-1", "{r}:master~", "{r}:master~1~1"),
        *(
            "{r}:nothing",
            "{r}:Master",
            "{r}:master:side",
            "{r}~1",
            "{r}g",
            ":master",
            "zz",
            "~",
            ":~1",
        ),
        *("{r}:master~99999999999999999999", "%E0%A4%A", "{r}:master~١"),
    ],
)
def test_other_names_are_refused(server, tree, bad):
    other = server.new_repo()  # with two repositories, a name needs a prefix
    assert other
    from urllib.parse import quote

    spec = bad.format(r=tree["root"][:10])
    path = spec if "%" in spec else quote(spec, safe=":~")
    assert server.call("GET", f"/api/node/{path}/kv/key/name").status == 400


def test_a_colon_alone_is_enough_with_one_repository(run_server, tmp_path):
    with run_server(Settings(data=tmp_path / "d")) as live:
        root = live.new_repo()
        live.commit(root)
        child = live.new_version(root)
        for spec in (":master", ":", ":master~0"):
            assert live.ok("GET", f"/api/node/{spec}/status").json() == {"Locked": False}
        assert live.engine.resolve(":master~1")[2].uuid == root
        live.new_repo()
        refused = live.call("GET", "/api/node/:master/status")
        assert "UUID must be specified" in refused.text
        assert live.engine.resolve(child)[2].id == 2


def test_an_ambiguous_prefix_is_refused_and_an_exact_name_never_is(server, root):
    server.commit(root)
    common = root[:20]
    twin = common + f"{(int(root[20:], 16) ^ 1 << 40):012x}"
    server.ok("POST", f"/api/node/{root}/branch", json_body={"branch": "twin", "uuid": twin})
    refused = server.call("GET", f"/api/node/{common}/status")
    assert refused.text.startswith(f"more than one UUID matches {common}")
    for tag in (f"{common}", f"{common}.1"):
        server.ok("POST", f"/api/node/{root}/tag", json_body={"tag": tag})
    assert server.engine.resolve(common)[2].uuid == common


def test_a_branch_is_found_after_a_restart_when_its_tip_has_only_a_tag(run_server, settings):
    with run_server(settings) as live:
        root = live.new_repo()
        live.commit(root)
        live.ok("POST", f"/api/node/{root}/tag", json_body={"tag": "v1"})
        assert live.engine.resolve(f"{root}:master")[2].uuid == root
    with run_server(settings) as live:
        assert live.engine.resolve(f"{root}:master")[2].uuid == root


def test_branch_versions_go_from_the_leaf_to_the_root_across_branches(server, tree):
    ask = f"/api/repo/{tree['side']}/branch-versions"
    assert server.ok("GET", f"{ask}/side").json() == [tree["side"], tree["m1"], tree["root"]]
    assert server.ok("GET", f"{ask}/master").json() == [tree["m2"], tree["m1"], tree["root"]]
    assert server.ok("GET", f"{ask}/nothing").text == "[]"
    for path in (ask, f"{ask}/", f"{ask}/a/b"):
        assert server.call("GET", path).status == 404


def test_names_follow_every_change_at_once(server, root):
    engine = server.engine
    prefix = root[:12]
    for _ in range(5):
        tip = engine.resolve(f"{prefix}:master")[2]
        server.commit(tip.uuid)
        assert engine.resolve(f"{prefix}:master")[2].locked
        child = server.new_version(tip.uuid)
        assert engine.resolve(f"{prefix}:master")[2].uuid == child
        assert engine.resolve(child[:14])[2].uuid == child
    with pytest.raises(InvalidRequest, match="could not find"):
        engine.resolve("")


def test_a_write_through_a_branch_name_goes_to_its_leaf(server, tree):
    refused = server.call("POST", f"/api/node/{tree['root']}:master/kv/key/x", b"v")
    assert f"locked node {tree['m2']}" in refused.text
    child = server.new_version(tree["m2"])
    server.ok("POST", f"/api/node/{tree['root']}:master/kv/key/x", b"v")
    assert server.ok("GET", f"/api/node/{child}/kv/key/x").body == b"v"
