"""Which messages count, whatever brokers do: every fault in every place, and bugs that must be found."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from dvid_es.errors import CorruptLog, LogUnavailable, SettingsError, WritesHalted
from dvid_es.logs import kafka, kafka_fold, kafka_message
from dvid_es.logs.base import Entry
from dvid_es.logs.kafka import KafkaLog
from dvid_es.logs.kafka_fold import DamagedTopic, Fold, beginning
from dvid_es.logs.kafka_message import BadMessage, decode
from dvid_es.logs.kafka_read import KafkaReader, verify_topic
from tests.contracts.log_contract import entry, stored
from tests.kafka.fake import FakeBrokers, FakeCluster

TOPIC = "topic"


pytestmark = pytest.mark.usefixtures("no_brokers")


@pytest.fixture
def brokers() -> FakeBrokers:
    return FakeBrokers()


def open_log(folder: Path, brokers: FakeBrokers, **more) -> KafkaLog:
    return KafkaLog(folder, "stream", FakeCluster(brokers), TOPIC, **more)


def settled(log: KafkaLog) -> int:
    """Wait until it is known what became of the last append."""
    known = threading.Event()
    try:
        return log.settle(known.set)
    except LogUnavailable:
        assert known.wait(30)
        return log.settle()


def facts(number: int) -> list[Entry]:
    return [Entry(1, 1, number, b"", b"%d.%d" % (number, part)) for part in range(number % 4 + 1)]


class History:
    """Some servers, one after the other, append to one topic; what was acknowledged is kept."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.folder = folder
        self.brokers = FakeBrokers(self.rng, trouble=0.0)
        self.acknowledged: dict[int, Entry] = {}
        self.tried: list[list[Entry]] = []
        self.servers = 0

    def run(self, steps: int = 25) -> None:
        log = self.start()
        old: list[KafkaLog] = []
        self.brokers._trouble = 0.4
        for _ in range(steps):
            if self.rng.random() < 0.1:
                old.append(log)
                self.brokers._trouble = 0
                log = self.start()
                self.brokers._trouble = 0.4
            for writer in [*self.rng.sample(old, min(1, len(old))), log]:
                self.append(writer)
        self.brokers._trouble = 0
        settled(log)
        self.brokers.arrive()
        self.append(log)
        for one in [*old, log]:
            one.close()
        self.check()

    def start(self) -> KafkaLog:
        self.servers += 1
        return open_log(self.folder / str(self.servers), self.brokers, adopt=True, tail_records=2)

    def append(self, log: KafkaLog) -> None:
        entries = facts(len(self.tried))
        self.tried.append(entries)
        try:
            first = log.append(entries)
        except LogUnavailable:
            if self.rng.random() < 0.7:
                try:
                    settled(log)
                except WritesHalted:
                    return
            return
        except WritesHalted as halted:
            assert "another server" in str(halted)  # noqa: PT017
            return
        for number, one in enumerate(entries, first):
            assert number not in self.acknowledged, "one offset was acknowledged twice"
            self.acknowledged[number] = one

    def check(self) -> None:
        log = open_log(self.folder / "reader", self.brokers, adopt=True, tail_records=0)
        found = list(log.read())
        assert log.end == len(found)
        log.close()
        assert [event.offset for event in found] == list(range(len(found)))
        bodies = [event.facts for event in found]
        for number, one in self.acknowledged.items():
            assert bodies[number : number + 1] == [one.facts], "an acknowledged event is lost"
        assert len(set(bodies)) == len(bodies), "an event is there twice"
        for entries in self.tried:
            there = [bodies.index(one.facts) for one in entries if one.facts in bodies]
            assert there in ([], list(range(there[0], there[0] + len(entries)) if there else []))
        order = [int(body.split(b".")[0]) for body in bodies]
        assert order == sorted(order) or self.servers > 1


@pytest.fixture
def small_messages(monkeypatch):
    monkeypatch.setattr(kafka_message, "PAYLOAD_BYTES", 100)
    monkeypatch.setattr(kafka, "_PAUSE_MAX_S", 0.01)


@pytest.mark.parametrize("seed", range(80))
def test_nothing_acknowledged_is_lost_and_nothing_is_there_twice(seed, tmp_path, small_messages):
    History(tmp_path, seed).run()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000, 4000))
def test_the_same_for_many_more_histories(seed, tmp_path, small_messages):
    History(tmp_path, seed).run(60)


def _accept_any_answer(monkeypatch):
    monkeypatch.setattr(KafkaLog, "_examine", lambda *_: None)


def _forget_what_was_unanswered(monkeypatch):
    monkeypatch.setattr(KafkaLog, "_lose_track", lambda self, reason: None)


def _count_what_comes_after_a_takeover(monkeypatch):
    genuine = Fold._data

    def data(self, offset, message, whole):
        genuine(self, offset, message._replace(epoch=self.epoch, serial=self.serial), whole)

    monkeypatch.setattr(Fold, "_data", data)


def _go_on_without_a_takeover(monkeypatch):
    def resume(self):
        fold = Fold(self._topic, self._fold.position)
        kafka.read_on(self._cluster, fold, self._cluster.ends(self._topic)[1])
        fold._parts.clear()
        return fold

    monkeypatch.setattr(KafkaLog, "_resume", resume)


@pytest.mark.parametrize(
    "plant",
    [
        _accept_any_answer,
        _forget_what_was_unanswered,
        _count_what_comes_after_a_takeover,
        _go_on_without_a_takeover,
    ],
)
def test_a_planted_bug_is_found(plant, tmp_path, small_messages, monkeypatch):
    plant(monkeypatch)
    for seed in range(40):
        try:
            History(tmp_path / str(seed), seed).run()
        except (AssertionError, CorruptLog, WritesHalted):
            return
    raise AssertionError("nobody noticed")


def test_the_second_server_takes_over_and_the_first_is_refused(tmp_path, brokers):
    first = open_log(tmp_path / "a", brokers)
    first.append([entry(0)])
    second = open_log(tmp_path / "b", brokers, adopt=True)
    assert second.append([entry(1)]) == 1
    with pytest.raises(WritesHalted, match="another server has taken over"):
        first.append([entry(2)])
    with pytest.raises(WritesHalted, match="another server has taken over"):
        first.append([entry(2)])
    assert second.append([entry(2)]) == 2, "what the first wrote does not count"
    assert list(second.read()) == [stored(0), stored(1), stored(2)]
    assert list(first.read()) == [stored(0)]
    first.close()
    second.close()


def test_a_server_that_was_replaced_while_it_had_lost_track_does_not_come_back(tmp_path, brokers):
    first = open_log(tmp_path / "a", brokers)
    brokers.next_actions = ["late", *["down"] * 3]
    with pytest.raises(LogUnavailable):
        first.append([entry(0)])
    brokers.next_actions = []
    second = open_log(tmp_path / "b", brokers, adopt=True)
    try:
        settled(first)
    except WritesHalted as halted:
        assert "another server" in str(halted)  # noqa: PT017
    else:  # the first was quicker: then it is the second that must give way
        with pytest.raises(WritesHalted, match="another server"):
            second.append([entry(0)])
    first.close()
    second.close()


def test_opening_reads_only_what_lies_behind_the_last_place(tmp_path, brokers, monkeypatch):
    log = open_log(tmp_path, brokers)
    for number in range(50):
        log.append([entry(number)])
    log.close()
    read: list[int] = []
    genuine = FakeCluster.read
    monkeypatch.setattr(FakeCluster, "read", lambda *a: read.append(a[3] - a[2]) or genuine(*a))
    log = open_log(tmp_path, brokers)
    assert log.end == 50
    assert sum(read) == 2, "the takeover, and the first message that names the topic"
    log.close()


def test_an_index_that_is_gone_or_damaged_is_made_anew(tmp_path, brokers):
    log = open_log(tmp_path, brokers)
    for number in range(20):
        log.append([entry(number)])
    log.close()
    index = tmp_path / "kafka.index"
    data = index.read_bytes()
    assert data
    for spoiled in (None, b"", data[:-1], data[:5] + b"x" + data[6:], data + b"rest"):
        index.unlink()
        if spoiled is not None:
            index.write_bytes(spoiled)
        log = open_log(tmp_path, brokers, tail_records=0)
        assert list(log.read()) == [stored(number) for number in range(20)]
        log.close()


def test_a_topic_that_was_cut_is_refused_at_start_and_never_reset(tmp_path, brokers):
    log = open_log(tmp_path, brokers)
    for number in range(5):
        log.append([entry(number)])
    log.close()
    brokers.topics[TOPIC][3:] = []
    before = list(brokers.topics[TOPIC])
    with pytest.raises(CorruptLog, match=r"has gone back: .* Nothing is reset"):
        open_log(tmp_path, brokers)
    assert brokers.topics[TOPIC] == before


@pytest.mark.parametrize("kept", [0, 3])
def test_a_topic_that_was_cut_or_made_anew_is_noticed_while_running(tmp_path, brokers, kept):
    log = open_log(tmp_path, brokers)
    for number in range(5):
        log.append([entry(number)])
    brokers.topics[TOPIC][kept:] = []
    with pytest.raises(WritesHalted, match="has gone back"):
        log.append([entry(5)])
    with pytest.raises(WritesHalted, match="has gone back"):
        log.append([entry(5)])
    log.close()


def test_a_topic_that_is_cut_while_an_append_is_in_doubt_halts_writing(tmp_path, brokers):
    log = open_log(tmp_path, brokers)
    log.append([entry(0)])
    brokers.next_actions = ["lost"]
    brokers.topics[TOPIC][1:] = []
    with pytest.raises(LogUnavailable):
        log.append([entry(1)])
    with pytest.raises(WritesHalted, match="has gone back"):
        settled(log)
    log.close()


def test_a_topic_that_is_gone_is_never_made_anew(tmp_path, brokers):
    open_log(tmp_path, brokers).close()
    del brokers.topics[TOPIC]
    with pytest.raises(CorruptLog, match="is gone"):
        open_log(tmp_path, brokers)
    assert brokers.topics == {}


def test_a_topic_of_the_same_name_and_length_is_told_from_the_old_one(tmp_path, brokers):
    log = open_log(tmp_path / "a", brokers)
    log.append([entry(0)])
    log.close()
    other = FakeBrokers()
    log = open_log(tmp_path / "b", other)
    log.append([entry(0)._replace(time_ns=7)])
    log.append([entry(1)])
    log.close()
    with pytest.raises(CorruptLog, match="is not the one that held the events"):
        open_log(tmp_path / "a", other)
    assert len(other.topics[TOPIC]) == 3, "nothing is written into it"


def test_a_topic_with_events_is_no_new_log(tmp_path, brokers):
    log = open_log(tmp_path / "a", brokers)
    log.append([entry(0)])
    log.close()
    with pytest.raises(SettingsError, match="holds 1 events already"):
        open_log(tmp_path / "b", brokers)


def test_foreign_messages_are_passed_over_and_found_by_verify(tmp_path, brokers):
    log = open_log(tmp_path, brokers)
    log.append([entry(0)])
    brokers.topics[TOPIC].append(b"who is this?")
    assert log.append([entry(1)]) == 1
    assert list(log.read()) == [stored(0), stored(1)]
    log.close()
    (finding,) = verify_topic(tmp_path, FakeCluster(brokers))
    assert finding[1:] == (2, "a message that dvid-es did not write")


def test_every_flipped_bit_of_a_message_is_found(tmp_path, brokers):
    log = open_log(tmp_path, brokers)
    log.append([entry(0), entry(1)])
    log.append([entry(2)])
    log.close()
    messages = brokers.topics[TOPIC]
    for place in (1, 2):
        good = messages[place]
        for bit in range(8 * len(good)):
            bad = bytearray(good)
            bad[bit // 8] ^= 1 << bit % 8
            fold, found = Fold(TOPIC, beginning("stream")), []
            try:
                for offset, value in enumerate(
                    [*messages[:place], bytes(bad), *messages[place + 1 :]]
                ):
                    found += fold.take([(offset, value)])
            except DamagedTopic as damage:
                assert damage.offset in (place, place + 1)  # noqa: PT017
            else:  # as good as foreign: then it is the end that has moved
                assert fold.passed[0][0] == place == 2
            assert found in ([], [stored(0), stored(1)])
        with pytest.raises(BadMessage):
            decode(good[:-1])


def test_a_message_that_is_missing_or_elsewhere_is_damage(tmp_path, brokers):
    log = open_log(tmp_path, brokers)
    for number in range(4):
        log.append([entry(number)])
    log.close()
    messages = brokers.topics[TOPIC]
    orders = [[0, 1, 3, 4], [0, 2, 1, 3, 4], [1, 2, 3, 4], [0, 1, 2, 4]]
    for order in orders:
        fold = Fold(TOPIC, beginning("stream"))
        with pytest.raises(DamagedTopic, match="messages are missing"):
            fold.take([(offset, messages[place]) for offset, place in enumerate(order)])


def test_a_message_of_another_history_is_damage(tmp_path, brokers):
    log = open_log(tmp_path / "a", brokers)
    other = FakeBrokers()
    strange = open_log(tmp_path / "b", other)
    for number in range(3):
        log.append([entry(number)])
        strange.append([entry(number)._replace(time_ns=1)])
    log.close()
    strange.close()
    mixed = [*brokers.topics[TOPIC][:2], *other.topics[TOPIC][2:]]
    fold = Fold(TOPIC, beginning("stream"))
    with pytest.raises(DamagedTopic, match="does not continue") as damage:
        fold.take(list(enumerate(mixed)))
    assert damage.value.offset == 2


def test_a_large_append_is_many_messages_and_there_as_a_whole(tmp_path, brokers, monkeypatch):
    monkeypatch.setattr(kafka_message, "PAYLOAD_BYTES", 100)
    log = open_log(tmp_path, brokers, tail_records=0)
    log.append([entry(number, size=100) for number in range(10)])
    assert len(brokers.topics[TOPIC]) > 10
    assert list(log.read()) == [stored(number, size=100) for number in range(10)]
    brokers.next_actions = ["partial"]
    with pytest.raises(LogUnavailable):
        log.append([entry(number, size=100) for number in range(10, 20)])
    assert settled(log) == 10
    log.append([entry(10)])
    assert list(log.read(9)) == [stored(9, size=100), stored(10)]
    log.close()


def test_a_reader_beside_the_server_sees_what_counts(tmp_path, brokers):
    log = open_log(tmp_path, brokers)
    log.append([entry(0), entry(1)])
    reader = KafkaReader(tmp_path, FakeCluster(brokers))
    assert (reader.end, reader.stream_id) == (2, "stream")
    log.append([entry(2)])
    assert list(reader.read(1)) == [stored(1)]
    assert list(KafkaReader(tmp_path, FakeCluster(brokers)).read(2)) == [stored(2)]
    log.close()


def test_a_second_opener_of_the_folder_is_refused_and_takes_nothing_over(tmp_path, brokers):
    log = open_log(tmp_path, brokers)
    with pytest.raises(SettingsError, match="in use"):
        open_log(tmp_path, brokers)
    assert log.append([entry(0)]) == 0
    log.close()


def test_the_chain_begins_with_the_name_of_the_stream():
    assert kafka_fold.beginning("a").chain != kafka_fold.beginning("b").chain
