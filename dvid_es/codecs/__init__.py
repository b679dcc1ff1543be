"""Bytes <-> arrays: pure functions, each module one format. Kernels are numba's.

Importing a module compiles its kernels or loads them from numba's cache.
"""


def warmup() -> None:
    """Compile every kernel of this package into numba's cache (about a minute when it is empty)."""
