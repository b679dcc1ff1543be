"""A writer that is killed: says on its output what it has made durable, until it is gone."""

import sys
from pathlib import Path

from dvid_es.logs import Entry, FileLog, FilePacks

SEGMENT_BYTES, PACK_BYTES = 20_000, 100_000


def data_of(number: int) -> bytes:
    """Return the value that record `number` names: some are equal, some are large."""
    return b"%d " % (number % 700) * (1 + number % 97) * (40 if number % 50 == 0 else 1)


def entry_of(number: int, ref: tuple) -> Entry:
    return Entry(7, 1, number, b"%d %d %d %d" % ref[:4], ref[4])


def main(folder: Path, log_type=FileLog, packs_type=FilePacks) -> None:
    packs = packs_type(folder / "packs", pack_bytes=PACK_BYTES)
    log = log_type(folder / "log", "stream", segment_bytes=SEGMENT_BYTES)
    print("start", log.end, flush=True)
    while True:
        first = log.end
        numbers = range(first, first + 1 + first % 9)
        refs = packs.put_many([data_of(number) for number in numbers])
        packs.sync()
        log.append([entry_of(number, ref) for number, ref in zip(numbers, refs, strict=True)])
        log.sync()
        print("ack", log.end, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
