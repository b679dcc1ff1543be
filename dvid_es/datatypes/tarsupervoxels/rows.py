"""The rows of a tarsupervoxels instance, byte by byte: see KEYS.md, kind 144."""

from collections.abc import Iterable

from dvid_es.projections.catalog import instance_key

BLOBS = 144
"""Kind of the rows of blobs."""

ROOT = 1
"""The version that all blobs belong to: a supervoxel is the same in all versions that have it."""

EXTENSION_BYTES_MAX = 255


def prefix_of(instance: int, extension: str) -> bytes:
    """Return what the rows of all blobs of an extension begin with."""
    raw = extension.encode()
    return instance_key(instance, BLOBS) + bytes((len(raw),)) + raw


def blob_keys(instance: int, extension: str, supervoxels: Iterable[int]) -> list[bytes]:
    """Return the row keys, without version and sequence, of the blobs of supervoxels."""
    prefix = prefix_of(instance, extension)
    return [prefix + supervoxel.to_bytes(8, "big") for supervoxel in supervoxels]
