"""Distinct integer types, so that a body is never passed for a supervoxel."""

from collections.abc import Sequence
from typing import NamedTuple, NewType

Supervoxel = NewType("Supervoxel", int)
"""Label written in voxels, 1 ... 2**64 - 1; 0 is background."""

Body = NewType("Body", int)
"""Label that supervoxels map to, 1 ... 2**64 - 1."""

MutationId = NewType("MutationId", int)
"""Number of one granted write, rising within a repository from 1,000,000,000; 0 means none."""

Offset = NewType("Offset", int)
"""Position of an event in its stream, dense from 0; also called its sequence number."""

VersionId = NewType("VersionId", int)
"""Ordinal of a version in its repository, from 1 (the root) in order of creation; 0 means none."""

InstanceId = NewType("InstanceId", int)
"""Number of a data instance in its repository, from 1 in order of creation; 0 means none."""

FIRST_MUTATION_ID = 1_000_000_000
"""The first mutation id of a repository (DVID's, so that clients may tell them from other numbers)."""


class PackRef(NamedTuple):
    """Where a bulk value lies in the packs of its repository, and what it must be."""

    pack: int
    """Number of the pack file."""

    offset: int
    """First byte of the value in that file."""

    length: int
    """Bytes of the value."""

    checksum: int
    """CRC-32C of the value."""

    digest: bytes
    """16-byte BLAKE2b of the value: equal values are stored once."""


class Places(NamedTuple):
    """Where many values lie and what they must be: columns of their `PackRef`s."""

    packs: Sequence[int]
    offsets: Sequence[int]
    lengths: Sequence[int]
    checksums: Sequence[int]
