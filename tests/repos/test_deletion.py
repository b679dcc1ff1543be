import pytest

from dvid_es.settings import Settings

ADMIN = {"admintoken": "secret"}
SURE = {"admintoken": "secret", "imsure": "true"}


def instances(server, root):
    return list(server.ok("GET", f"/api/repo/{root}/info").json()["DataInstances"])


def rows_of(server, root, number):
    with server.engine.store.read(root) as txn:
        start = number.to_bytes(4, "big")
        return list(txn.scan(start, (number + 1).to_bytes(4, "big")))


def test_a_deleted_instance_is_gone_and_can_come_back(server, root, kv):
    server.ok("POST", f"{kv}/key/a", b"value")
    server.ok("DELETE", f"/api/repo/{root}/kv", **SURE)
    assert server.call("GET", f"{kv}/key/a").text.startswith("invalid data instance name")
    assert instances(server, root) == []
    (gone,) = server.ok("GET", f"/api/repo/{root}/deleted").json()
    assert (gone["Name"], gone["TypeName"], gone["Purged"]) == ("kv", "keyvalue", False)
    server.ok("POST", f"/api/repo/{root}/undelete", json_body={"data": "kv"}, **ADMIN)
    assert server.ok("GET", f"{kv}/key/a").body == b"value"
    assert server.ok("GET", f"/api/repo/{root}/deleted").json() == []


def test_the_name_of_a_deleted_instance_is_free(server, root, kv):
    server.ok("POST", f"{kv}/key/a", b"old")
    server.ok("DELETE", f"/api/repo/{root}/kv", **SURE)
    server.new_instance(root, "keyvalue", "kv")
    assert server.call("GET", f"{kv}/key/a").status == 404
    undelete = f"/api/repo/{root}/undelete"
    assert server.call("POST", undelete, json_body={"data": "kv"}, **ADMIN).status == 400
    server.ok("POST", undelete, json_body={"data": "kv", "new": "old"}, **ADMIN)
    assert server.ok("GET", f"/api/node/{root}/old/key/a").body == b"old"
    assert instances(server, root) == ["kv", "old"]


def test_a_deletion_must_be_meant(server, root, kv, events):
    before = events(root)
    for query in ({}, {"imsure": "true"}, ADMIN, {**ADMIN, "imsure": "yes"}):
        assert server.call("DELETE", f"/api/repo/{root}/kv", **query).status == 400
        assert server.call("DELETE", f"/api/repo/{root}", **query).status == 400
    assert server.call("DELETE", f"/api/repo/{root}/nothing", **SURE).status == 400
    assert server.call("DELETE", f"/api/repo/{root}/kv/more", **SURE).status == 404
    assert events(root) == before


def test_without_an_admin_token_anybody_may_delete_but_nobody_purge(run_server, tmp_path):
    with run_server(Settings(data=tmp_path / "d")) as live:
        root = live.new_repo()
        live.new_instance(root, "keyvalue", "kv")
        live.ok("DELETE", f"/api/repo/{root}/kv?imsure=true")
        assert live.call("POST", f"/api/repo/{root}/purge", json_body={"data": "kv"}).status == 400
        live.ok("DELETE", f"/api/repo/{root}?imsure=true")
        assert live.ok("GET", "/api/repos/info").text == "{}"


def test_a_passcode_guards_deleting_renaming_and_restoring(server):
    root = server.new_repo(passcode="open sesame")
    server.new_instance(root, "keyvalue", "kv")
    delete, rename = f"/api/repo/{root}/kv", f"/api/repo/{root}/rename"
    names = {"old": "kv", "new": "kv2"}
    for wrong in ({}, {"passcode": "no"}):
        assert "passcode" in server.call("DELETE", delete, **SURE, **wrong).text
        assert server.call("POST", rename, json_body={**names, **wrong}, **ADMIN).status == 400
        assert server.call("DELETE", f"/api/repo/{root}", **SURE, **wrong).status == 400
    right = {"passcode": "open sesame"}
    server.ok("POST", rename, json_body={**names, **right}, **ADMIN)
    server.ok("DELETE", f"/api/repo/{root}/kv2", **SURE, **right)
    undelete = f"/api/repo/{root}/undelete"
    assert server.call("POST", undelete, json_body={"data": "kv2"}, **ADMIN).status == 400
    server.ok("POST", undelete, json_body={"data": "kv2", **right}, **ADMIN)
    server.ok("DELETE", f"/api/repo/{root}", **SURE, **right)


def test_a_renamed_instance_keeps_its_data_and_its_uuid(server, root, kv):
    server.ok("POST", f"{kv}/key/a", b"value")
    server.new_instance(root, "keyvalue", "taken")
    before = server.ok("GET", f"{kv}/info").json()["Base"]["DataUUID"]
    rename = f"/api/repo/{root}/rename"
    for bad in (
        {"old": "kv", "new": "taken"},
        {"old": "no", "new": "x"},
        {"old": "kv"},
        {"old": "kv", "new": "log"},
        {"old": "kv", "new": "a/b"},
    ):
        assert server.call("POST", rename, json_body=bad, **ADMIN).status == 400
    server.ok("POST", rename, json_body={"old": "kv", "new": "better"}, **ADMIN)
    assert server.ok("GET", f"/api/node/{root}/better/key/a").body == b"value"
    assert server.ok("GET", f"/api/node/{root}/better/info").json()["Base"]["DataUUID"] == before
    assert server.call("GET", f"{kv}/key/a").status == 400


def test_a_deleted_repository_is_gone_and_can_come_back(server, kv, root):
    server.ok("POST", f"{kv}/key/a", b"value")
    server.commit(root)
    child = server.new_version(root)
    assert "root UUID" in server.call("DELETE", f"/api/repo/{child}", **SURE).text
    server.ok("DELETE", f"/api/repo/{root[:12]}", **SURE)
    for uuid in (root, child):
        assert server.call("GET", f"/api/repo/{uuid}/info").status == 400
    assert server.call("POST", f"/api/node/{child}/kv/key/b", b"x").status == 400
    assert root not in server.ok("GET", "/api/repos/info").json()
    assert server.call("POST", "/api/repos", json_body={"root": root}).status == 400
    assert server.call("POST", "/api/repos", json_body={"root": child}).status == 400
    assert root in [one["Root"] for one in server.ok("GET", "/api/repos/deleted").json()]
    server.ok("POST", "/api/repos/undelete", json_body={"root": root}, **ADMIN)
    assert server.ok("GET", f"{kv}/key/a").body == b"value"
    assert server.ok("GET", f"/api/node/{child}/kv/key/a").body == b"value"
    again = server.call("POST", "/api/repos/undelete", json_body={"root": root}, **ADMIN)
    assert "not deleted" in again.text


def test_a_purge_drops_every_row_and_nothing_else(server, root, kv, monkeypatch):
    from dvid_es.repos import instances as commands

    monkeypatch.setattr(
        commands.PurgeInstance.__init__, "__kwdefaults__", {"passcode": "", "rows": 7}
    )
    other = server.new_instance(root, "keyvalue", "other")
    for number in range(20):
        server.ok("POST", f"{kv}/key/k{number}", b"x")
    server.ok("POST", f"{other}/key/a", b"kept")
    purge = f"/api/repo/{root}/purge"
    assert "no deleted" in server.call("POST", purge, json_body={"data": "kv"}, **ADMIN).text
    server.ok("DELETE", f"/api/repo/{root}/kv", **SURE)
    assert len(rows_of(server, root, 1)) == 40  # values and records
    assert server.call("POST", purge, json_body={"data": "kv"}).status == 400
    server.ok("POST", purge, json_body={"data": "kv"}, **ADMIN)
    assert rows_of(server, root, 1) == []
    assert len(rows_of(server, root, 2)) == 2
    assert server.ok("GET", f"{other}/key/a").body == b"kept"
    refused = server.call("POST", f"/api/repo/{root}/undelete", json_body={"data": "kv"}, **ADMIN)
    assert "purged" in refused.text
    server.ok("POST", purge, json_body={"data": "kv"}, **ADMIN)
    third = server.new_instance(root, "keyvalue", "kv")
    assert server.engine.resolve(root)[1].names["kv"].id == 3
    assert server.ok("GET", f"{third}/keys").json() == []


def test_a_purged_repository_never_comes_back_and_its_names_stay_taken(server, root, kv):
    server.ok("POST", f"{kv}/key/a", b"value")
    purge = {"json_body": {"root": root}, **ADMIN}
    assert "must be deleted" in server.call("POST", "/api/repos/purge", **purge).text
    server.ok("DELETE", f"/api/repo/{root}", **SURE)
    server.ok("POST", "/api/repos/purge", **purge)
    assert rows_of(server, root, 1) == []
    refused = server.call("POST", "/api/repos/undelete", json_body={"root": root}, **ADMIN)
    assert "purged" in refused.text
    assert server.call("POST", "/api/repos", json_body={"root": root}).status == 400


def test_a_purge_is_no_request_for_an_idempotency_key(server, root, kv):
    server.ok("DELETE", f"/api/repo/{root}/kv", **SURE)
    headers = {"Idempotency-Key": "k"}
    purge = f"/api/repo/{root}/purge"
    answer = server.call("POST", purge, json_body={"data": "kv"}, headers=headers, **ADMIN)
    assert answer.status == 400


@pytest.mark.parametrize("when", ["deleted", "purged"])
def test_a_restart_changes_nothing_of_it(run_server, settings, when):
    with run_server(settings) as live:
        root = live.new_repo()
        path = live.new_instance(root, "keyvalue", "kv")
        live.ok("POST", f"{path}/key/a", b"value")
        live.ok("DELETE", f"/api/repo/{root}/kv", **SURE)
        if when == "purged":
            live.ok("POST", f"/api/repo/{root}/purge", json_body={"data": "kv"}, **ADMIN)
    with run_server(settings) as live:
        assert live.call("GET", f"{path}/key/a").status == 400
        (gone,) = live.ok("GET", f"/api/repo/{root}/deleted").json()
        assert gone["Purged"] == (when == "purged")
