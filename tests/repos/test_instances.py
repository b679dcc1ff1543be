import base64
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from dvid_es.codecs.fnv import fnv1_128


def create(server, uuid, **config):
    return server.call("POST", f"/api/repo/{uuid}/instance", json_body=config)


def base(server, uuid, name):
    return server.ok("GET", f"/api/node/{uuid}/{name}/info").json()["Base"]


def test_what_info_says_of_a_new_instance_is_dvids(server, root):
    answer = create(server, root, TypeName="keyvalue", DataName="kv", Tags="a=b,bad,c=", foo=3)
    assert answer.text == f'{{"result": "Added kv [keyvalue] to node {root}"}}'
    text = server.ok("GET", f"/api/node/{root}/kv/info").text
    assert text.startswith(
        '{"Base":{"TypeName":"keyvalue","TypeURL":"github.com/janelia-flyem/dvid/'
    )
    found = base(server, root, "kv")
    assert list(found) == [
        *("TypeName", "TypeURL", "TypeVersion", "DataUUID", "Name", "RepoUUID", "Compression"),
        *("Checksum", "Syncs", "Versioned", "KVStore", "LogStore", "Tags"),
    ]
    assert len(found["DataUUID"]) == 32
    assert found["Tags"] == {"a": "b", "c": ""}
    assert (found["Versioned"], found["Syncs"]) == (True, [])
    (line,) = server.ok("GET", f"/api/repo/{root}/log").json()["log"]
    assert line.endswith(
        '  New data instance "kv" of type "keyvalue" with config'
        " {map[dataname:kv foo:3 tags:a=b,bad,c= typename:keyvalue]}"
    )


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("none", "No compression, level -1"),
        ("snappy", "Go Snappy compression, level -1"),
        ("LZ4", "LZ4 compression, level -1"),
        ("gzip", "gzip compression, level -1"),
        ("gzip:9", "gzip compression, level 9"),
        ("jpeg", "jpeg compression, level 32"),
    ],
)
def test_compressions_are_shown_as_dvid_shows_them(server, root, given, shown):
    assert create(
        server, root, typename="keyvalue", dataname="kv", compression=given, checksum="crc32"
    )
    found = base(server, root, "kv")
    assert (found["Compression"], found["Checksum"]) == (shown, "CRC32 checksum")


@pytest.mark.parametrize("value", ["true", "1", True, "false", "0", False])
def test_versioned_is_text_or_a_boolean(server, root, value):
    assert create(server, root, typename="keyvalue", dataname="kv", versioned=value).status == 200
    assert base(server, root, "kv")["Versioned"] == (value in ("true", "1", True))


@pytest.mark.parametrize(
    "config",
    [
        {"dataname": "x"},
        {"typename": "keyvalue"},
        {"typename": "keyvalue", "dataname": 7},
        {"typename": 7, "dataname": "x"},
        {"typename": "nothing", "dataname": "x"},
        {"typename": "keyvalue", "dataname": ""},
        {"typename": "keyvalue", "dataname": "a/b"},
        {"typename": "keyvalue", "dataname": "a\n"},
        {"typename": "keyvalue", "dataname": "x" * 501},
        {"typename": "keyvalue", "dataname": "log"},
        {"typename": "keyvalue", "dataname": "newversion"},
        {"typename": "keyvalue", "dataname": "kv"},
        {"typename": "labelmap", "dataname": "kv"},
        {"typename": "keyvalue", "dataname": "x", "compression": "zip"},
        {"typename": "keyvalue", "dataname": "x", "compression": "jpeg:80"},
        {"typename": "keyvalue", "dataname": "x", "compression": "gzip:x"},
        {"typename": "keyvalue", "dataname": "x", "compression": 1},
        {"typename": "keyvalue", "dataname": "x", "checksum": "md5"},
        {"typename": "keyvalue", "dataname": "x", "versioned": "maybe"},
        {"typename": "keyvalue", "dataname": "x", "versioned": 0},
        {"typename": "keyvalue", "dataname": "x", "tags": ["a=b"]},
        {"typename": "labelmap", "dataname": "x", "BlockSize": "17,17,17"},
    ],
)
def test_a_refused_instance_leaves_nothing(server, root, kv, events, config):
    before = events(root)
    assert create(server, root, **config).status == 400
    assert events(root) == before
    assert list(server.ok("GET", f"/api/repo/{root}/info").json()["DataInstances"]) == ["kv"]


@pytest.mark.parametrize("body", [b"", b"keyvalue", b"[]", b"null", b"{"])
def test_a_body_that_is_no_configuration_is_refused(server, root, body):
    assert server.call("POST", f"/api/repo/{root}/instance", body).status == 400


def test_an_instance_needs_an_open_version_or_an_admin(server, root):
    server.commit(root)
    refused = create(server, root, typename="keyvalue", dataname="kv")
    assert "New data instance cannot be created on locked node" in refused.text
    path = f"/api/repo/{root}/instance?admintoken=secret"
    server.ok("POST", path, json_body={"typename": "keyvalue", "dataname": "kv"})


def test_an_instance_of_a_child_is_known_and_empty_at_every_version(server, root):
    server.commit(root)
    child = server.new_version(root)
    server.new_instance(child, "keyvalue", "young")
    assert base(server, root, "young")["RepoUUID"] == child
    assert server.ok("GET", f"/api/node/{root}/young/keys").json() == []


def test_many_instances_at_once_have_numbers_and_uuids_of_their_own(server, root):
    def make(number):
        return create(server, root, typename="keyvalue", dataname=f"kv{number % 30}").status

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(make, range(60)))
    assert sorted(found) == [200] * 30 + [400] * 30
    instances = server.engine.resolve(root)[1].instances
    assert sorted(instances) == list(range(1, 31))
    assert len({one.data_uuid for one in instances.values()}) == 30


def test_an_unversioned_instance_has_one_content_and_no_locks(server, root):
    path = server.new_instance(root, "keyvalue", "one", versioned="false")
    server.commit(root)
    child = server.new_version(root)
    server.ok("POST", f"/api/node/{child}/one/key/a", b"child")
    assert server.ok("GET", f"{path}/key/a").body == b"child"
    server.ok("POST", f"{path}/key/a", b"root")
    assert server.ok("GET", f"/api/node/{child}/one/key/a").body == b"root"
    server.ok("DELETE", f"/api/node/{child}/one/key/a")
    assert server.call("GET", f"{path}/key/a").status == 404
    server.ok("POST", f"{path}/tags", json_body={"a": "b"})


def test_tags_are_added_or_replaced_and_belong_to_no_version(server, root, kv):
    path = f"{kv}/tags"
    assert server.ok("GET", path).text == '{"Tags":null}'
    server.ok("POST", path, json_body={"b": "1", "a": "<"})
    server.ok("POST", path, json_body={"c": "3"})
    assert server.ok("GET", path).text == '{"Tags":{"a":"\\u003c","b":"1","c":"3"}}'
    server.ok("POST", f"{path}?replace=true", json_body={"only": "this"})
    for bad in (b'{"n": 1}', b'["a"]', b"a=b"):
        assert server.call("POST", path, bad).status == 400
    assert server.ok("GET", path).json() == {"Tags": {"only": "this"}}
    server.commit(root)
    assert server.call("POST", path, json_body={"late": ""}).status == 400
    child = server.new_version(root)
    server.ok("POST", f"/api/node/{child}/kv/tags?replace=true", json_body={})
    assert server.ok("GET", path).text == '{"Tags":{}}'


def test_types_that_do_not_sync_say_so(server, kv):
    refused = server.call("POST", f"{kv}/sync", json_body={"sync": "kv"})
    assert "Bad API call" in refused.text


def test_blobs_come_back_by_their_hash_through_any_instance(server, root, kv):
    other = server.new_instance(root, "keyvalue", "other")
    chance = random.Random(7)
    for size in [0, 1, 512, 513, *(chance.randrange(200_000) for _ in range(16))]:
        data = chance.randbytes(size)
        reference = server.ok("POST", f"{kv}/blobstore", data).json()["reference"]
        assert reference == base64.urlsafe_b64encode(fnv1_128(data)).decode()
        assert server.ok("GET", f"{other}/blobstore/{reference}").body == data


def test_the_same_blob_twice_is_one_event_and_a_lock_does_not_matter(server, root, kv, events):
    server.commit(root)
    first = server.ok("POST", f"{kv}/blobstore", b"data" * 1000)
    assert first.text == f'{{"reference": "{first.json()["reference"]}"}}'
    before = events(root)
    assert server.ok("POST", f"{kv}/blobstore", b"data" * 1000).body == first.body
    assert events(root) == before


def test_references_to_nothing_are_not_found_and_others_are_refused(server, kv):
    unknown = base64.urlsafe_b64encode(bytes(16)).decode()
    answer = server.call("GET", f"{kv}/blobstore/{unknown}")
    assert (answer.status, "not found" in answer.text) == (404, True)
    assert server.call("GET", f"{kv}/blobstore/QUJD").status == 404
    for bad in ("not-base64!", "", "a", f"{unknown}/more"):
        assert server.call("GET", f"{kv}/blobstore/{bad}").status == 400
    assert server.call("HEAD", f"{kv}/blobstore/{unknown}").status == 400


def test_other_bytes_of_the_same_hash_are_refused(server, root, kv, monkeypatch):
    monkeypatch.setattr("dvid_es.repos.blobs.fnv1_128", lambda data: b"0123456789abcdef")
    server.ok("POST", f"{kv}/blobstore", b"one")
    refused = server.call("POST", f"{kv}/blobstore", b"two")
    assert (refused.status, "other bytes" in refused.text) == (400, True)
    reference = base64.urlsafe_b64encode(b"0123456789abcdef").decode()
    assert server.ok("GET", f"{kv}/blobstore/{reference}").body == b"one"


@pytest.mark.parametrize("size", [0, 1, 7, 1000])
def test_the_hash_is_fnv_1_of_128_bits(size):
    data = random.Random(size).randbytes(size)
    value = 0x6C62272E07BB014262B821756295C58D
    for byte in data:
        value = value * (2**88 + 0x13B) % 2**128 ^ byte
    assert fnv1_128(data) == value.to_bytes(16, "big")


def test_help_is_the_text_of_the_datatype(server, kv):
    answer = server.ok("GET", f"{kv}/help")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "keyvalue" in answer.text


def test_unknown_instances_and_words_are_refused(server, root, kv):
    assert server.call("GET", f"/api/node/{root}/nothing/info").text.startswith(
        "invalid data instance name"
    )
    assert server.call("GET", f"{kv}/nothing").text.startswith("Bad API call")
    assert server.call("GET", f"/api/node/{root}/kv").status == 404
