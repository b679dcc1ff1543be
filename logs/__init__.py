"""Append-only stores: logs of records and packs of bulk values. Bytes only; FORMAT.md shows them."""

from dvid_es.logs.base import Entry, Finding, Log, PackRef, Packs, Stored
from dvid_es.logs.filelog import FileLog
from dvid_es.logs.memory import MemoryLog, MemoryPacks
from dvid_es.logs.packread import PackReader
from dvid_es.logs.packs import FilePacks

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
    "Stored",
]
