from pathlib import Path

import pytest

from dvid_es.logs.kafka import KafkaLog
from tests.contracts.log_contract import LogContract


class TestKafkaLog(LogContract):
    tail_records = 20_000

    @pytest.fixture
    def log(self, tmp_path, open_log):
        return open_log(tmp_path / "stream", tail_records=self.tail_records)


class TestKafkaLogThatKeepsNothingInMemory(TestKafkaLog):
    tail_records = 0


class TestKafkaLogOpenedAgain(LogContract):
    """As after a restart: the topic has been taken over."""

    @pytest.fixture
    def log(self, tmp_path: Path, open_log) -> KafkaLog:
        open_log(tmp_path / "stream").close()
        return open_log(tmp_path / "stream", tail_records=3)
