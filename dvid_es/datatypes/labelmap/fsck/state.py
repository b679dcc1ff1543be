"""One instance at one version as of one sequence, row by row."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dvid_es.datatypes.labelmap.export.source import Source
from dvid_es.projections import versioned
from dvid_es.projections.catalog import instance_key
from dvid_es.projections.temporal import SIGN
from dvid_es.projections.versioned import SUFFIX_BYTES

Coords = NDArray[np.int32]

_ROWS_PER_LOOK = 20_000
_BEHIND = b"\xff" * (SUFFIX_BYTES + 1)
"""Added to a key: behind all of its rows."""


class State(Source):
    """What is checked."""

    def rows(self, kind: int) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over what the version sees of one kind of temporal rows: key after the kind, value."""
        prefix = instance_key(self.instance.id, kind)
        start, stop = prefix, prefix + b"\xff" * 20
        while start:
            found = []
            with self.reading() as (txn, view):
                for pair in versioned.scan(txn, start, stop, view):
                    found.append(pair)
                    if len(found) == _ROWS_PER_LOOK:
                        break
            start = found[-1][0] + _BEHIND if len(found) == _ROWS_PER_LOOK else b""
            for key, value in found:
                yield key[5:], value

    def coords(self, kind: int, *first: int) -> Coords:
        """Return the coordinates int32[n, 3] (ZYX, in that order) that any version has rows for.

        Args:
            kind: whose keys end in a coordinate.
            *first: bytes of the key before it.
        """
        prefix = instance_key(self.instance.id, kind) + bytes(first)
        start = prefix
        found: list[bytes] = []
        more = True
        while more:
            with self.reading() as (txn, _):
                for _ in range(_ROWS_PER_LOOK):
                    pair = txn.seek(start)
                    more = pair is not None and pair[0].startswith(prefix)
                    if pair is None or not more:
                        break
                    key = pair[0][:-SUFFIX_BYTES]
                    found.append(key[len(prefix) :])
                    start = key + _BEHIND
        places = np.frombuffer(b"".join(found), ">u4").reshape(-1, 3).astype(np.int64) - SIGN
        return places.astype(np.int32)
