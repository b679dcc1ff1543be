from pathlib import Path

from dvid_es.logs import MemoryLog, MemoryPacks
from tests.contracts.log_contract import LogContract
from tests.contracts.packs_contract import PacksContract


class TestMemoryLog(LogContract):
    def open_log(self, folder: Path) -> MemoryLog:
        return MemoryLog("stream")


class TestMemoryPacks(PacksContract):
    def open_packs(self, folder: Path) -> MemoryPacks:
        return MemoryPacks()
