"""CRC-32C of many values in one buffer, by the processor's own instruction and without the interpreter.

Only where the processor has it: elsewhere `FAST` is false, and google_crc32c serves as well.
"""

from collections.abc import Sequence

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from dvid_es.codecs.kernel import helper, i64, kernel, load64, u8

_POLYNOMIAL = 0x82F63B78
_LANE_BYTES = 1024
"""Three lanes of so many bytes are read at a time: an instruction waits for the one before in its lane."""


def _has_instruction() -> bool:
    try:
        return bool(get_host_cpu_features().get("sse4.2"))
    except RuntimeError:  # the processor is not known
        return False


FAST = _has_instruction()
"""Whether `first_damaged` can be called."""


def _instruction(bits: int, width: int):
    """Return an intrinsic (crc, value) -> crc; LLVM has the CRC in u64 or u32, as `width` says."""

    def append(typingctx, crc, value):
        def generate(context, builder, signature, args):
            kind, operand = ir.IntType(width), ir.IntType(bits)
            name = f"llvm.x86.sse42.crc32.{width}.{bits}"
            function = ir.FunctionType(kind, (kind, operand))
            call = cgutils.get_or_insert_function(builder.module, function, name)
            crc = args[0] if width == 64 else builder.trunc(args[0], kind)
            found = builder.call(call, (crc, args[1]))
            return found if width == 64 else builder.zext(found, ir.IntType(64))

        return types.uint64(types.uint64, value), generate

    return intrinsic(append)


_add_word = _instruction(64, 64)
_add_byte = _instruction(8, 32)


def _zeros_table(length: int) -> np.ndarray:
    """Return uint64[4 * 256]: what `length` zero bytes make of each byte of a CRC."""
    byte = np.arange(256, dtype=np.uint64)
    for _ in range(8):
        byte = byte >> np.uint64(1) ^ (byte & np.uint64(1)) * np.uint64(_POLYNOMIAL)
    table = np.concatenate([np.arange(256, dtype=np.uint64) << np.uint64(8 * k) for k in range(4)])
    for _ in range(length):
        table = table >> np.uint64(8) ^ byte[(table & np.uint64(255)).astype(np.intp)]
    return table


_ZEROS = _zeros_table(_LANE_BYTES)


@helper
def _behind_lane(crc):
    """Return a CRC after a lane of zeros."""
    return (
        _ZEROS[crc & 255]
        ^ _ZEROS[256 + (crc >> 8 & 255)]
        ^ _ZEROS[512 + (crc >> 16 & 255)]
        ^ _ZEROS[768 + (crc >> 24 & 255)]
    )


@helper
def crc32c(data, start, stop):
    """Return the CRC-32C of data[start:stop]; only where FAST."""
    crc = np.uint64(0xFFFFFFFF)
    at = start
    while at + 3 * _LANE_BYTES <= stop:
        second = third = np.uint64(0)
        for k in range(at, at + _LANE_BYTES, 8):
            crc = _add_word(crc, load64(data, k))
            second = _add_word(second, load64(data, k + _LANE_BYTES))
            third = _add_word(third, load64(data, k + 2 * _LANE_BYTES))
        crc = _behind_lane(_behind_lane(crc) ^ second) ^ third
        at += 3 * _LANE_BYTES
    while at + 8 <= stop:
        crc = _add_word(crc, load64(data, at))
        at += 8
    while at < stop:
        crc = _add_byte(crc, data[at])
        at += 1
    return crc ^ np.uint64(0xFFFFFFFF)


if FAST:

    @kernel(types.int64(u8, i64, i64, i64))
    def _first_damaged(data, starts, lengths, checksums):
        """Return the place of the first value whose CRC is another one; -1 if there is none."""
        for i in range(len(starts)):
            start, stop = starts[i], starts[i] + lengths[i]
            if start < 0 or stop < start or stop > len(data):
                return i
            if crc32c(data, start, stop) != np.uint64(checksums[i]):
                return i
        return -1


def first_damaged(
    data: bytes | memoryview,
    starts: Sequence[int],
    lengths: Sequence[int],
    checksums: Sequence[int],
) -> int:
    """Return the place of the first value that is not what was written; -1 if all are.

    Args:
        data: value i is data[starts[i] : starts[i] + lengths[i]].
        starts: where each begins.
        lengths: bytes of each; what lies outside of `data` is damaged.
        checksums: CRC-32C of each.
    """
    columns = [np.array(column, np.int64) for column in (starts, lengths, checksums)]
    return int(_first_damaged(np.frombuffer(data, np.uint8), *columns))
