"""Kernels over the voxels of one block that runs of a split cover. Runs lie inside of the block."""

import numpy as np
from numba import types

from dvid_es.codecs.kernel import helper, i32_2d, kernel, u64, u64_out

_SHAPE = (types.int64,) * 5
"""First voxel of the block (z, y, x), and its sides y and x."""


@helper
def _first_voxel(run, z0, y0, x0, side_y, side_x):
    z, y, x = run[2] - z0, run[1] - y0, run[0] - x0
    return (z * side_y + y) * side_x + x


@kernel(types.int64(u64, i32_2d, *_SHAPE, u64_out))
def labels_under(volume, runs, z0, y0, x0, side_y, side_x, out):
    """Write the label of each voxel that runs cover, run after run; return how many there are."""
    n = 0
    for i in range(len(runs)):
        first = _first_voxel(runs[i], z0, y0, x0, side_y, side_x)
        for at in range(first, first + runs[i, 3]):
            out[n] = volume[at]
            n += 1
    return n


@kernel(types.int64(u64_out, i32_2d, *_SHAPE, u64, u64))
def relabel(volume, runs, z0, y0, x0, side_y, side_x, svs, parts):
    """Give voxels under runs the part of their supervoxel (`svs` ascend); return how many had one."""
    n = 0
    last, place = np.uint64(0), -1
    for i in range(len(runs)):
        first = _first_voxel(runs[i], z0, y0, x0, side_y, side_x)
        for at in range(first, first + runs[i, 3]):
            label = volume[at]
            if label != last:
                last = label
                place = np.searchsorted(svs, label)
                if place == len(svs) or svs[place] != label:
                    place = -1
            if place >= 0:
                volume[at] = parts[place]
                n += 1
    return n
