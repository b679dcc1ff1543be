"""Bytes <-> arrays: pure functions, each module one format. Kernels are numba's.

Importing a module compiles its kernels or loads them from numba's cache, a few milliseconds each.
"""

import importlib

KERNEL_MODULES = (
    "crc32c",
    "downres",
    "fnv",
    "labelbatch_kernels",
    "labelblock_kernels",
    "labelencode",
    "labelindex_kernels",
    "labellz4_kernels",
    "labelremap",
    "murmur",
    "neuroglancer_kernels",
    "rle_kernels",
    "snappy_kernels",
    "spliced",
    "storedblock_kernels",
)
"""The modules here that define kernels."""


def warmup() -> None:
    """Compile every kernel of this package into numba's cache: about half a minute when it is empty.

    Kernels have explicit signatures, so that importing them is all it takes.
    """
    for module in KERNEL_MODULES:
        importlib.import_module(f"{__name__}.{module}")
