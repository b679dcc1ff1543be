"""Append-only stores: logs of records, packs of bulk values; FORMAT.md shows their bytes."""

from dvid_es.logs.base import Entry, Finding, Log, PackRef, Packs, Stored
from dvid_es.logs.filelog import FileLog
from dvid_es.logs.memory import MemoryLog, MemoryPacks
from dvid_es.logs.packread import PackReader
from dvid_es.logs.packs import FilePacks
from dvid_es.logs.repair import Report, repair, verify_log

__all__ = [
    "Entry",
    "FileLog",
    "FilePacks",
    "Finding",
    "Log",
    "MemoryLog",
    "MemoryPacks",
    "PackReader",
    "PackRef",
    "Packs",
    "Report",
    "Stored",
    "repair",
    "verify_log",
]
