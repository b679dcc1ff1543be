"""What only a real broker shows: its topics, its settings, its locks on doors."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvid_es.bootstrap import make_cluster
from dvid_es.errors import CorruptLog, LogUnavailable, SettingsError, WritesHalted
from dvid_es.logs.kafka import KafkaLog
from dvid_es.logs.kafka_client import Cluster
from dvid_es.settings import Settings, load
from tests.contracts.log_contract import entry, stored
from tests.kafka import broker as real
from tests.kafka import conftest

pytestmark = pytest.mark.usefixtures("broker")


def test_a_topic_keeps_everything_in_one_partition(open_log, cluster, topic, tmp_path):
    open_log(tmp_path)
    found = cluster.call(cluster._configs(topic))
    assert (found["cleanup.policy"], found["retention.ms"]) == ("delete", "-1")
    assert (found["retention.bytes"], found["unclean.leader.election.enable"]) == ("-1", "false")
    assert (found["min.insync.replicas"], found["flush.messages"]) == ("1", "1")


def test_a_topic_that_would_lose_events_is_refused(open_log, cluster, topic, tmp_path):
    open_log(tmp_path).close()
    alter(cluster, topic, {"retention.ms": "1000000"})
    with pytest.raises(SettingsError, match=r"would lose events: .'retention.ms': '1000000'"):
        open_log(tmp_path)


def alter(cluster: Cluster, topic: str, configs: dict[str, str]) -> None:
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    async def work() -> None:
        async with cluster._admin() as admin:
            resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs)
            await admin.alter_configs([resource])

    cluster.call(work())


def gone(cluster: Cluster, topic: str) -> None:
    """Delete a topic and wait until the broker says so."""
    cluster.delete_topic(topic)
    while topic in cluster.topics():
        pass  # each look asks the broker


def test_a_deleted_topic_is_noticed_at_start_and_never_made_anew(
    open_log, cluster, topic, tmp_path
):
    log = open_log(tmp_path)
    log.append([entry(0)])
    log.close()
    gone(cluster, topic)
    with pytest.raises(CorruptLog, match="is gone"):
        open_log(tmp_path)
    assert topic not in cluster.topics()
    cluster.create_topic(topic)
    with pytest.raises(CorruptLog, match="made anew"):
        open_log(tmp_path)
    assert cluster.ends(topic) == (0, 0), "nothing is written into the new one"


def test_a_topic_made_anew_is_noticed_while_running(open_log, cluster, topic, tmp_path):
    log = open_log(tmp_path)
    for number in range(3):
        log.append([entry(number)])
    gone(cluster, topic)
    cluster.create_topic(topic)
    with pytest.raises((WritesHalted, LogUnavailable)):
        log.append([entry(3)])
    with pytest.raises(WritesHalted, match="has gone back"):
        settled(log)
    with pytest.raises(WritesHalted, match="has gone back"):
        log.append([entry(3)])


def settled(log: KafkaLog) -> None:
    from tests.kafka.test_rules import settled as wait

    wait(log)


def test_of_two_servers_the_later_one_writes(open_log, make_cluster, tmp_path):
    first = open_log(tmp_path / "a")
    first.append([entry(0)])
    second = open_log(tmp_path / "b", cluster=make_cluster(), adopt=True)
    with pytest.raises(WritesHalted, match="another server has taken over"):
        first.append([entry(1)])
    assert second.append([entry(1)]) == 1
    third = open_log(tmp_path / "c", cluster=make_cluster(), adopt=True, tail_records=0)
    assert list(third.read()) == [stored(0), stored(1)]


PASSWORD = "open sesame"


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[real.Broker]:
    """A broker that speaks TLS only, and only with those who know the password."""
    if shutil.which("keytool") is None:
        pytest.skip("there is no keytool to make a certificate with")
    store, pem = tmp_path / "keys.p12", tmp_path / "ca.pem"
    common = ["-keystore", str(store), "-storetype", "PKCS12", "-storepass", "changeit"]
    name = ["-dname", "CN=localhost", "-ext", "SAN=IP:127.0.0.1,DNS:localhost"]
    keytool("-genkeypair", "-alias", "b", "-keyalg", "RSA", "-keysize", "2048", *common, *name)
    keytool("-exportcert", "-rfc", "-alias", "b", "-file", str(pem), *common)
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    made = real.Broker(
        tmp_path / "broker",
        protocol="SASL_SSL",
        **{
            "ssl.keystore.location": str(store),
            "ssl.keystore.password": "changeit",
            "ssl.keystore.type": "PKCS12",
            "ssl.truststore.location": str(pem),
            "ssl.truststore.type": "PEM",
            "sasl.enabled.mechanisms": "PLAIN",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": f'{login} user_dvid="{PASSWORD}"'
            f' user_broker="b" username="broker" password="b";',
        },
    )
    conftest.note(f"a real broker, Apache Kafka {real.VERSION}")
    try:
        made.start()
        yield made
    finally:
        made.stop()


def keytool(*words: str) -> None:
    subprocess.run(["keytool", *words], check=True, capture_output=True)


Configured = Callable[..., Settings]


@pytest.fixture
def configured(locked: real.Broker, tmp_path: Path) -> Configured:
    def make(**changed: str) -> Settings:
        keys = {
            "servers": f'["localhost:{locked.port}"]',
            "secProtocol": '"sasl_ssl"',
            "saslMechanisms": '"plain"',
            "saslUsername": '"dvid"',
            "saslPassword": f'"{PASSWORD}"',
            "tlsCaFile": '"ca.pem"',
            **changed,
        }
        path = tmp_path / "settings.toml"
        lines = [f"{key} = {value}" for key, value in keys.items() if value]
        path.write_text("\n".join(["[kafka]", *lines, "[log]", "timeoutSeconds = 10"]))
        return load(path)

    return make


def test_tls_and_passwords_of_the_settings_are_used(configured, tmp_path, topic):
    cluster = make_cluster(configured())
    log = KafkaLog(tmp_path / "log", "stream", cluster, topic, tail_records=0)
    try:
        log.append([entry(0)])
        assert list(log.read()) == [stored(0)]
    finally:
        log.close()
        cluster.close()
    wrong = (
        {"saslPassword": '"closed"'},
        {"tlsCaFile": ""},  # an authority that nobody knows
        {"secProtocol": '"plaintext"'},
    )
    for changed in wrong:
        cluster = make_cluster(configured(**changed))
        try:
            with pytest.raises(LogUnavailable):
                cluster.topics()
        finally:
            cluster.close()
