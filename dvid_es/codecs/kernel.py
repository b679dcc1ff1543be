"""How kernels are compiled: one decorator, the array types, and the few instructions numba lacks.

All kernels have explicit signatures, so that importing a module compiles (or loads from numba's
cache) every kernel in it, and nothing is ever compiled while a request waits. Inputs are declared
read-only and accept writable arrays too. Kernels check no bounds: their callers validate first.

numba's cache knows only the file of a kernel, not of what it calls: after changing this file,
remove the `*.nbi` files beside it.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

u8 = types.Array(types.uint8, 1, "C", readonly=True)
i32 = types.Array(types.int32, 1, "C", readonly=True)
i32_2d = types.Array(types.int32, 2, "C", readonly=True)
i64 = types.Array(types.int64, 1, "C", readonly=True)
u16 = types.Array(types.uint16, 1, "C", readonly=True)
u32 = types.Array(types.uint32, 1, "C", readonly=True)
u64 = types.Array(types.uint64, 1, "C", readonly=True)
u8_out = types.Array(types.uint8, 1, "C")
u16_out = types.Array(types.uint16, 1, "C")
i32_out = types.Array(types.int32, 1, "C")
i32_2d_out = types.Array(types.int32, 2, "C")
i64_out = types.Array(types.int64, 1, "C")
u32_out = types.Array(types.uint32, 1, "C")
u64_out = types.Array(types.uint64, 1, "C")

_BYTE = ir.IntType(8)
_WORD = ir.IntType(64)
_ROW = ir.VectorType(_WORD, 8)
_LANES = ir.VectorType(ir.IntType(32), 8)


def kernel(*signatures: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function for the given signatures now, without the GIL, kept in numba's cache."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return njit(list(signatures), nogil=True, cache=True, error_model="numpy")(function)
        except RuntimeError as error:
            if "no locator" not in str(error):
                raise
            # Neither the package's folder nor the user's is writable: compile at each start.
            return njit(list(signatures), nogil=True, error_model="numpy")(function)

    return decorate


helper = njit(nogil=True, error_model="numpy")
"""For helpers that kernels of the same file call: compiled with them, without an own signature."""

inlined = njit(nogil=True, inline="always", error_model="numpy")
"""For helpers in inner loops: a call costs atomic reference counts of each array it is given."""


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, to: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), to.as_pointer())


def _loader(bits: int, big_endian: bool) -> Any:
    def load(typingctx: Any, array: Any, offset: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            word = ir.IntType(bits)
            at = _pointer(context, builder, signature.args[0], args[0], args[1], word)
            value = builder.load(at, align=1)
            if big_endian:
                value = builder.bswap(value)
            return value if bits == 64 else builder.zext(value, _WORD)

        result = types.uint64 if bits == 64 else types.int64
        return result(array, types.int64), generate

    return intrinsic(load)


load16 = _loader(16, False)
"""load16(bytes, offset) -> int64: a little-endian u16 at any offset."""
load32 = _loader(32, False)
"""load32(bytes, offset) -> int64: a little-endian u32 at any offset."""
load64 = _loader(64, False)
"""load64(bytes, offset) -> uint64: a little-endian u64 at any offset."""
load64_be = _loader(64, True)
"""load64_be(bytes, offset) -> uint64: a big-endian u64 at any offset."""


def _storer(bits: int, big_endian: bool) -> Any:
    def store(typingctx: Any, array: Any, offset: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            word = ir.IntType(bits)
            at = _pointer(context, builder, signature.args[0], args[0], args[1], word)
            value = args[2] if bits == 64 else builder.trunc(args[2], word)
            builder.store(builder.bswap(value) if big_endian else value, at, align=1)
            return context.get_dummy_value()

        kind = types.uint64 if bits == 64 else types.int64
        return types.none(array, types.int64, kind), generate

    return intrinsic(store)


store16 = _storer(16, False)
"""store16(bytes, offset, int64): write a little-endian u16 at any offset."""
store32 = _storer(32, False)
"""store32(bytes, offset, int64): write a little-endian u32 at any offset."""
store64 = _storer(64, False)
"""store64(bytes, offset, uint64): write a little-endian u64 at any offset."""
store64_be = _storer(64, True)
"""store64_be(bytes, offset, uint64): write a big-endian u64 at any offset."""


@intrinsic
def copy_bytes(typingctx: Any, source: Any, start: Any, out: Any, at: Any, length: Any) -> Any:
    """Copy source[start : start + length] to out[at:]; both are bytes and do not overlap."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        from_ = _pointer(context, builder, kinds[0], args[0], args[1], _BYTE)
        to = _pointer(context, builder, kinds[2], args[2], args[3], _BYTE)
        cgutils.raw_memcpy(builder, to, from_, args[4], 1)
        return context.get_dummy_value()

    return types.none(source, types.int64, out, types.int64, types.int64), generate


@intrinsic
def move_bytes(typingctx: Any, source: Any, start: Any, out: Any, at: Any, length: Any) -> Any:
    """Copy source[start : start + length] to out[at:], which may overlap it; both are bytes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        from_ = _pointer(context, builder, kinds[0], args[0], args[1], _BYTE)
        to = _pointer(context, builder, kinds[2], args[2], args[3], _BYTE)
        cgutils.raw_memmove(builder, to, from_, args[4], 1)
        return context.get_dummy_value()

    return types.none(source, types.int64, out, types.int64, types.int64), generate


@intrinsic
def fill_bytes(typingctx: Any, out: Any, at: Any, length: Any, value: Any) -> Any:
    """Set out[at : at + length], bytes, to one value."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to = _pointer(context, builder, signature.args[0], args[0], args[1], _BYTE)
        byte = builder.trunc(args[3], _BYTE)
        cgutils.memset(builder, to, args[2], byte)
        return context.get_dummy_value()

    return types.none(out, types.int64, types.int64, types.int64), generate


@intrinsic
def trailing_zeros(typingctx: Any, value: Any) -> Any:
    """Return the number of zero bits below the lowest set bit of a u64; 64 for 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@intrinsic
def leading_zeros(typingctx: Any, value: Any) -> Any:
    """Return the number of zero bits above the highest set bit of an int64; 64 for 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.int64), generate


@intrinsic
def bit_count(typingctx: Any, value: Any) -> Any:
    """Return the number of set bits of a u64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), generate


def _splat(builder: Any, value: Any) -> Any:
    empty = ir.Constant(ir.VectorType(value.type, 8), ir.Undefined)
    vector = builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(vector, empty, ir.Constant(_LANES, [0] * 8))


@intrinsic
def equal8(typingctx: Any, labels: Any, offset: Any, label: Any) -> Any:
    """Return 8 bits: bit k is set where labels[offset + k] == label (u64)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = _pointer(context, builder, signature.args[0], args[0], args[1], _ROW)
        same = builder.icmp_unsigned("==", builder.load(at, align=8), _splat(builder, args[2]))
        return builder.zext(builder.bitcast(same, _BYTE), _WORD)

    return types.uint64(labels, types.int64, types.uint64), generate


@intrinsic
def copy8(typingctx: Any, labels: Any, offset: Any, out: Any, at: Any) -> Any:
    """Copy 8 labels, u64, from labels[offset:] to out[at:]."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from_ = _pointer(context, builder, signature.args[0], args[0], args[1], _ROW)
        to = _pointer(context, builder, signature.args[2], args[2], args[3], _ROW)
        builder.store(builder.load(from_, align=8), to, align=8)
        return context.get_dummy_value()

    return types.none(labels, types.int64, out, types.int64), generate


def _unpack(builder: Any, word: Any, bits: Any) -> Any:
    """Return the 8 values of `bits` bits at the top of a word as a vector, first voxel first."""
    steps = ir.Constant(_ROW, [1, 2, 3, 4, 5, 6, 7, 8])
    shifts = builder.sub(ir.Constant(_ROW, [64] * 8), builder.mul(_splat(builder, bits), steps))
    one = ir.Constant(_WORD, 1)
    select = builder.sub(builder.shl(one, bits), one)
    return builder.and_(builder.lshr(_splat(builder, word), shifts), _splat(builder, select))


@intrinsic
def unpack8(typingctx: Any, word: Any, bits: Any, values: Any, at: Any) -> Any:
    """Write the 8 values of 1 to 8 bits at the top of a u64, highest first, to 8 int64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _pointer(context, builder, signature.args[2], args[2], args[3], _ROW)
        builder.store(_unpack(builder, args[0], args[1]), place, align=8)
        return context.get_dummy_value()

    return types.none(types.uint64, types.int64, values, types.int64), generate


@intrinsic
def find8(typingctx: Any, word: Any, bits: Any, value: Any) -> Any:
    """Return 8 bits: bit k is set where the k-th value, as `unpack8` reads them, is `value`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        row = _unpack(builder, args[0], args[1])
        same = builder.icmp_unsigned("==", row, _splat(builder, args[2]))
        return builder.zext(builder.bitcast(same, _BYTE), _WORD)

    return types.uint64(types.uint64, types.int64, types.uint64), generate


@intrinsic
def unpack_pairs(typingctx: Any, word: Any, bits: Any, values: Any, at: Any) -> Any:
    """Like `unpack8`, to uint16: the 4 even voxels at `at`, the 4 odd ones 64 places later."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        short = ir.IntType(16)
        row = builder.trunc(_unpack(builder, args[0], args[1]), ir.VectorType(short, 8))
        half = ir.VectorType(ir.IntType(32), 4)
        for odd in (0, 1):
            lanes = ir.Constant(half, [odd, 2 + odd, 4 + odd, 6 + odd])
            four = builder.shuffle_vector(row, ir.Constant(row.type, ir.Undefined), lanes)
            index = builder.add(args[3], ir.Constant(_WORD, 64 * odd))
            place = _pointer(context, builder, signature.args[2], args[2], index, four.type)
            builder.store(four, place, align=2)
        return context.get_dummy_value()

    return types.none(types.uint64, types.int64, values, types.int64), generate


def _has_shuffle() -> bool:
    """Say whether the processor looks up 16 bytes at once."""
    try:
        return bool(get_host_cpu_features().get("ssse3"))
    except RuntimeError:  # the processor is not known
        return False


_SHUFFLES = _has_shuffle()


def _is_shuffled(array: Any) -> bool:
    return _SHUFFLES and array.dtype == types.uint8


@intrinsic
def blend_bits(typingctx: Any, labels: Any) -> Any:
    """Return the most bits of values that `blend8` takes for an array of this type: 2 or 4."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(_WORD, 4 if _is_shuffled(labels) else 2)

    return types.int64(labels), generate


@intrinsic
def blend8(typingctx: Any, word: Any, bits: Any, table: Any, labels: Any, at: Any) -> Any:
    """Write 8 entries of a table that values of 1 to `blend_bits` bits name, as `unpack8` reads them.

    table and labels are both uint64, or both uint16, or both uint8; table has 16 entries or more.
    """
    assert table.dtype == labels.dtype, "entries are copied as they are"

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        row = _unpack(builder, args[0], args[1])
        blend = _shuffled if _is_shuffled(table) else _selected
        chosen = blend(context, builder, table, args[2], row)
        align = table.dtype.bitwidth // 8
        place = _pointer(context, builder, labels, args[3], args[4], chosen.type)
        builder.store(chosen, place, align=align)
        return context.get_dummy_value()

    return types.none(types.uint64, types.int64, table, labels, types.int64), generate


def _shuffled(context: Any, builder: Any, table_type: Any, table: Any, row: Any) -> Any:
    """Return bytes of a table of 16 by one instruction."""
    bytes16 = ir.VectorType(_BYTE, 16)
    first = ir.Constant(_WORD, 0)
    at = _pointer(context, builder, table_type, table, first, bytes16)
    short = builder.trunc(row, ir.VectorType(_BYTE, 8))
    nothing = ir.Constant(short.type, ir.Undefined)
    wide = ir.Constant(ir.VectorType(ir.IntType(32), 16), [*range(8)] * 2)
    values = builder.shuffle_vector(short, nothing, wide)
    kind = ir.FunctionType(bytes16, (bytes16, bytes16))
    name = "llvm.x86.ssse3.pshuf.b.128"
    shuffle = cgutils.get_or_insert_function(builder.module, kind, name)
    found = builder.call(shuffle, (builder.load(at, align=1), values))
    half = ir.Constant(_LANES, [*range(8)])
    return builder.shuffle_vector(found, ir.Constant(bytes16, ir.Undefined), half)


def _selected(context: Any, builder: Any, table_type: Any, table: Any, row: Any) -> Any:
    """Return entries of a table of 4 by comparing."""
    element = ir.IntType(table_type.dtype.bitwidth)
    lanes = ir.VectorType(element, 8)
    row = row if lanes == _ROW else builder.trunc(row, lanes)
    entries = []
    for value in range(4):
        index = ir.Constant(_WORD, value)
        at = _pointer(context, builder, table_type, table, index, element)
        entries.append(_splat(builder, builder.load(at, align=element.width // 8)))
    chosen = entries[0]
    for value in (1, 2, 3):
        same = builder.icmp_unsigned("==", row, ir.Constant(lanes, [value] * 8))
        chosen = builder.select(same, entries[value], chosen)
    return chosen


@intrinsic
def vote64(typingctx: Any, voxels: Any, best: Any) -> Any:
    """Write the winners of 64 groups of 8 voxels: most votes, then the smaller; 0 has no vote.

    voxels holds uint16[8 * 64]: the first voxels of all groups, the second ones, and so on; best is
    uint16[64].
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = ir.VectorType(ir.IntType(16), 64)
        zero, one = ir.Constant(lanes, [0] * 64), ir.Constant(lanes, [1] * 64)
        labels = []
        for i in range(8):
            index = ir.Constant(_WORD, 64 * i)
            at = _pointer(context, builder, signature.args[0], args[0], index, lanes)
            labels.append(builder.load(at, align=2))
        votes = [one] * 8
        for i in range(8):
            for j in range(i):
                # A comparison is -1 where it holds.
                same = builder.sext(builder.icmp_unsigned("==", labels[i], labels[j]), lanes)
                votes[i] = builder.sub(votes[i], same)
                votes[j] = builder.sub(votes[j], same)
        winner, most = zero, zero
        for label, own in zip(labels, votes, strict=True):
            count = builder.select(builder.icmp_unsigned("==", label, zero), zero, own)
            more = builder.icmp_unsigned(">", count, most)
            equal = builder.icmp_unsigned("==", count, most)
            smaller = builder.icmp_unsigned("<", label, winner)
            better = builder.or_(more, builder.and_(equal, smaller))
            winner = builder.select(better, label, winner)
            most = builder.select(better, count, most)
        at = _pointer(context, builder, signature.args[1], args[1], ir.Constant(_WORD, 0), lanes)
        builder.store(winner, at, align=2)
        return context.get_dummy_value()

    return types.none(voxels, best), generate


@intrinsic
def fill8(typingctx: Any, labels: Any, offset: Any, label: Any) -> Any:
    """Set labels[offset : offset + 8], uint64, uint16 or uint8, to one value."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = ir.VectorType(ir.IntType(labels.dtype.bitwidth), 8)
        at = _pointer(context, builder, signature.args[0], args[0], args[1], lanes)
        builder.store(_splat(builder, args[2]), at, align=labels.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(labels, types.int64, labels.dtype), generate


@intrinsic
def same64(typingctx: Any, values: Any, first: Any, second: Any) -> Any:
    """Return 64 bits: bit k is set where values[first + k] == values[second + k]: u8 or u16."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = ir.VectorType(ir.IntType(values.dtype.bitwidth), 64)
        rows = []
        for start in args[1:]:
            at = _pointer(context, builder, signature.args[0], args[0], start, lanes)
            rows.append(builder.load(at, align=1))
        return builder.bitcast(builder.icmp_unsigned("==", *rows), _WORD)

    return types.uint64(values, types.int64, types.int64), generate
