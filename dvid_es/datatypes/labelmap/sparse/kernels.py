"""The kernel of proximity: the exact distance of two sets of voxels in one block."""

import numpy as np
from numba import types

from dvid_es.codecs.kernel import helper, i32_out, kernel, u64

FAR = 1 << 30
"""More than any squared distance in a block."""


@helper
def _touches(sets, shape_z, shape_y, shape_x):
    """Whether a voxel of one set has a neighbour, across a face, of the other."""
    plane = shape_y * shape_x
    at = 0
    for z in range(shape_z):
        for y in range(shape_y):
            for x in range(shape_x):
                # 1 and 2 are the sets, 0 is neither: only unlike sets make 3.
                own = sets[at]
                if own:
                    if x + 1 < shape_x and own | sets[at + 1] == 3:
                        return True
                    if y + 1 < shape_y and own | sets[at + shape_x] == 3:
                        return True
                    if z + 1 < shape_z and own | sets[at + plane] == 3:
                        return True
                at += 1
    return False


@helper
def _along_x(sets, out, rows, size):
    """Write the squared distance, in its row, of each voxel to set 1, or FAR."""
    for row in range(rows):
        first = row * size
        last = -1
        for x in range(size):
            if sets[first + x] == 1:
                last = x
            out[first + x] = (x - last) * (x - last) if last >= 0 else FAR
        last = -1
        for x in range(size - 1, -1, -1):
            if sets[first + x] == 1:
                last = x
            if last >= 0:
                out[first + x] = min(out[first + x], (last - x) * (last - x))


@helper
def _along(line, first, step, size, tops, begins, copy):
    """Take the rest of one line into squared distances: the lowest of the parabolas over it.

    `tops` has the places whose parabola is the lowest somewhere, `begins` from where on.
    """
    n = 0
    for i in range(size):
        height = np.int64(line[first + i * step])
        copy[i] = height
        if height >= FAR:
            continue
        begin = 0
        while n:
            top = tops[n - 1]
            # From here on the parabola of i is lower than that of top. These numbers are small, so
            # their quotient in floating point, which is faster, has the right floor.
            rise = height + i * i - copy[top] - top * top
            begin = np.int64(np.floor(rise / (2.0 * (i - top)))) + 1
            if begin > begins[n - 1]:
                break
            n -= 1
        if n == 0:
            begin = 0
        if begin < size:
            tops[n] = i
            begins[n] = begin
            n += 1
    if n == 0:
        return
    k = n - 1
    for i in range(size - 1, -1, -1):
        while begins[k] > i:
            k -= 1
        far = i - tops[k]
        line[first + i * step] = copy[tops[k]] + far * far


@kernel(types.int64(u64, types.int64, types.int64, types.int64, i32_out))
def nearest(sets, shape_z, shape_y, shape_x, squares):
    """Return the squared distance of the nearest voxels of two sets; FAR if one has none.

    `sets` are the voxels of a block, flat in ZYX order: 1 and 2 for the sets, 0 for neither. `squares`
    is room for as many int32: the squared distances to set 1, one axis after the other.
    """
    if _touches(sets, shape_z, shape_y, shape_x):
        return 1
    plane = shape_y * shape_x
    _along_x(sets, squares, shape_z * shape_y, shape_x)
    longest = max(shape_z, shape_y)
    tops = np.empty(longest, np.int64)
    begins = np.empty(longest, np.int64)
    copy = np.empty(longest, np.int64)
    for z in range(shape_z):
        for x in range(shape_x):
            _along(squares, z * plane + x, shape_x, shape_y, tops, begins, copy)
    for at in range(plane):
        _along(squares, at, plane, shape_z, tops, begins, copy)
    best = FAR
    for at in range(shape_z * plane):
        if sets[at] == 2 and squares[at] < best:
            best = squares[at]
    return best
