from pathlib import Path

import pytest

from dvid_es.errors import SettingsError
from dvid_es.settings import DEFAULT_DATA, Settings, StoreAssignment, is_loopback, load
from dvid_es.settings_toml import KEYS, parse

DVID = """
# A configuration as DVID has it.
[server]
host = "mygreatserver.test.com"
httpAddress = ":8000"
rpcAddress = ":8001"
webClient = "/path/to/webclient"
allowTiming = true
note = "for tests"
corsDomains = ["*"]
rwmode = "fullwrite"
blockListFile = "blocked.txt"
shutdownDelay = 2
allowLabelmapSplit = true
instance_id_gen = "sequential"
instance_id_start = 100
min_mutation_id_start = 1000100000

[email]
notify = ["foo@someplace.edu"]
port = 25

[logging]
logfile = "log/dvid.log"
max_log_size = 500 # MB
max_log_age = 30   # days

[mutations]
jsonstore = "/path/to/mutations"
httpstore = "kafka:mutations"
blobstore = "raid6"

[kafka]
servers = ["foo.bar.com:1234", "foo2.bar.com:1234"]
topicPrefix = "postsFromServer1"

[store]
    [store.raid6]
    engine = "badger"
    path = "/path/to/db"

    [store.mutationlog]
    engine = "filelog"
    path = "/path/to/log"

[backend]
    [backend.default]
    store = "raid6"
    log = "mutationlog"

    [backend."type:meshes"]
    store = "raid6"

[auth]
enforce = "none"

[groupcache]
gb = 3

[cache.labelarray]
size = 20

[mutcache.bodies]
path = "/path/to/mutcache"
"""


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv("DVID_ADMIN_TOKEN", raising=False)


def read(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load(path)


def test_a_configuration_of_dvid_is_understood(tmp_path):
    found = read(tmp_path, DVID)
    assert (found.host, found.port) == ("0.0.0.0", 8000)
    assert found.public_host == "mygreatserver.test.com"
    assert found.address == "mygreatserver.test.com:8000"
    assert found.mode == "fullwrite"
    assert found.allow_timing
    assert found.allow_split
    assert found.cors_domains == ("*",)
    assert found.shutdown_seconds == 2
    assert found.log_max_megabytes == 500
    assert found.kafka_servers == ("foo.bar.com:1234", "foo2.bar.com:1234")
    assert found.stores == {"raid6": "badger", "mutationlog": "filelog"}
    assert found.backends["default"] == StoreAssignment("raid6", "mutationlog")
    assert found.config_text == DVID
    assert found.shown() == DVID


def test_what_has_no_effect_is_told(tmp_path):
    notices = "\n".join(read(tmp_path, DVID).notices)
    for key in ("rpcAddress", "instance_id_start", "jsonstore", "max_log_age", "gb", "notify",
                "[cache.labelarray]", "[mutcache.bodies]", "raid6 (badger)"):  # fmt: skip
        assert key in notices


def test_paths_are_relative_to_the_file_and_absolute_ones_stay(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    found = read(tmp_path, DVID + '\n[dvid_es]\ndata = "here"\n')
    assert found.log_file == tmp_path / "log/dvid.log"
    assert found.block_list_file == tmp_path / "blocked.txt"
    assert found.data == tmp_path / "here"
    assert found.web_client == Path("/path/to/webclient")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[server]\n\nhtpAddress = ":1"', r'line 3, \[server\]: unknown key "htpAddress"; did you'),
        ('[server]\n\nhtpAddress = ":1"', 'did you mean "httpAddress"'),
        ("[server]\nHTTPADDRESS = 1", r"line 2, \[server\]: HTTPADDRESS must be an address"),
        ("[sever]\nnote = 'x'", r'line 1: unknown section "sever"; did you mean "server"'),
        ("[server]\nxyzzy = 1", r'line 2, \[server\]: unknown key "xyzzy"; known are host, httpAddress'),
        ("[limits]\nmaxBodyBytes = 0", r"line 2, \[limits\]: maxBodyBytes must be a whole number"),
        ("[limits]\nmaxBodyBytes = true", "must be a whole number"),
        ("[server]\nrwmode = 'readwrite'", r'rwmode must be one of "", "readonly", "fullwrite"'),
        ("[server]\ncorsDomains = '*'", "corsDomains must be a list of texts"),
        ("[server]\nallowTiming = 'true'", "allowTiming must be true or false"),
        ("[server]\nhttpAddress = 'localhost:99999'", "must be an address"),
        ("server = 1", r"line 1|\"server\" is a section"),
        ("[server\n", "not TOML"),
        ("[auth]\nenforce = 'dsg'", "line 2.*enforce must be \"none\""),
        ("[auth]\nproxy_address = 'proxy'", "proxy_address must be"),
        ("[mirror.all]\nservers = ['http://a']", "nothing is mirrored"),
        ("[store.a]\npath = 'x'", r"\[store.a\]: a store needs engine"),
        ("[store.a]\nengine = 'x'\n[store.b]\nengine = 'x'", "backend.default"),
        ("[store.a]\nengine = 'x'\n[backend.default]\nstore = 'aa'", 'unknown store "aa"; did you mean "a"'),
        ("[backend.default]\nlog = 'x'", "an assignment needs store"),
        ("[store.a]\nengine = 'x'\n[backend.default]\nstor = 'a'", 'unknown key "stor"; did you mean "store"'),
        ("[cache.x]\nsiez = 1", 'did you mean "size"'),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(tmp_path, text, message):
    with pytest.raises(SettingsError, match=message):
        read(tmp_path, text)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"nothing\.toml cannot be read"):
        load(tmp_path / "nothing.toml")
    (tmp_path / "latin.toml").write_bytes(b"[server]\nnote = '\xe9'")
    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path / "latin.toml")


def test_what_is_given_counts_more_than_the_file(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('[server]\nhttpAddress = "localhost:1234"\n[dvid_es]\ndata = "d"')
    found = load(path, port=99, host=None, data=Path("/other"))
    assert (found.host, found.port, found.data) == ("localhost", 99, Path("/other"))
    assert load().data == DEFAULT_DATA


def test_the_token_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("DVID_ADMIN_TOKEN", "hush")
    found = load()
    assert found.admin_token == "hush"
    assert "hush" not in found.shown()


def test_settings_without_a_file_are_shown_as_one(tmp_path):
    found = load(data=tmp_path / 'a "b" \\c', cors_domains=("*",), mode="readonly")
    fields, notices = parse(found.shown(), tmp_path / "shown.toml")
    assert not notices
    for name, value in fields.items():
        assert value == getattr(found, name), name


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("d" * 32, "own"),
        ("bodies:" + "a" * 32, "by name"),
        ("type=meshes", "by tag"),
        ("type:meshes", "by tag, as in the sample"),
        ("labelmap", "by type"),
        ("default", "default"),
    ],
)
def test_assignments_are_found_in_the_order_of_dvid(spec, expected):
    specs = ["d" * 32, "bodies:" + "a" * 32, "type=meshes", "type:meshes", "labelmap", "default"]
    backends = {name: StoreAssignment("lesser") for name in specs[specs.index(spec) + 1 :]}
    backends[spec] = StoreAssignment(expected, "log")
    found = Settings(data=Path("/d"), backends=backends).stores_of(
        data_uuid="d" * 32,
        name="bodies",
        version_uuid="a" * 32,
        tags={"type": "meshes"},
        typename="labelmap",
    )
    assert found == (f"{expected}: lmdb @ /d/projections", "log: filelog @ /d/repos")


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("localhost", True), ("::1", True), ("[::1]", True),
     ("0.0.0.0", False), ("", False), ("127.evil.com", False), ("localhost.evil", False),
     ("10.0.0.1", False)],
)  # fmt: skip
def test_only_addresses_of_this_machine_are_loopback(host, here):
    assert is_loopback(host) is here


def test_no_two_keys_of_a_section_differ_in_case_only():
    for section, keys in KEYS.items():
        assert len({key.lower() for key in keys}) == len(keys), section


KAFKA = """
[kafka]
servers = ["broker:9093"]
secProtocol = "SASL_SSL"
saslMechanisms = "scram-sha-512"
saslUsername = "dvid"
saslPassword = "open sesame"
tlsCaFile = "ca.pem"
[log]
backend = "kafka"
topicPrefix = "lab-"
timeoutSeconds = 3
"""


def test_the_log_may_be_on_kafka_and_the_password_is_never_shown(tmp_path, monkeypatch):
    monkeypatch.delenv("DVID_KAFKA_SASL_PASSWORD", raising=False)
    found = read(tmp_path, KAFKA)
    assert (found.log_backend, found.log_topic_prefix, found.log_timeout_seconds) == (
        "kafka", "lab-", 3,
    )  # fmt: skip
    assert (found.kafka_security, found.kafka_sasl_mechanism) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (found.kafka_sasl_username, found.kafka_sasl_password) == ("dvid", "open sesame")
    assert found.kafka_ca_file == tmp_path / "ca.pem"
    assert "open sesame" not in found.shown()
    assert "(not shown)" in found.shown()
    assert "D0" not in found.durability
    monkeypatch.setenv("DVID_KAFKA_SASL_PASSWORD", "from outside")
    assert read(tmp_path, KAFKA).kafka_sasl_password == "from outside"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[log]\nbackend = "kafka"', r"line 2, \[log\]: .* needs \[kafka\] servers"),
        ('[log]\nbackend = "rabbit"', 'backend must be one of "filelog", "kafka"'),
        ('[kafka]\nsaslMechanisms = "gssapi"', 'must be one of "plain", "scram-sha-256"'),
        ('[kafka]\nsecProtocol = "tls"', 'must be one of "plaintext", "ssl"'),
    ],
)
def test_a_wrong_setting_of_kafka_names_the_right_ones(tmp_path, text, message):
    with pytest.raises(SettingsError, match=message):
        read(tmp_path, text)
