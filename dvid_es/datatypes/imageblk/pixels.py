"""Pixels that show voxels.

Source: GetImage2d in datatype/imageblk/imageblk.go (janelia-flyem/dvid).
"""

import numpy as np

from dvid_es.codecs.images import Pixels
from dvid_es.datatypes.imageblk.layout import Layout
from dvid_es.datatypes.imageblk.reads import Voxels


def pixels_of(voxels: Voxels, layout: Layout) -> Pixels:
    """Return the pixels of voxels [height, width].

    Grey if they have 8 or 16 bits; else their bytes are red, green, blue and alpha, of 16 bits each
    if there are eight.
    """
    voxels = np.ascontiguousarray(voxels)
    if layout.dtype.itemsize < 4:
        return voxels
    channel = ">u2" if layout.dtype.itemsize == 8 else "u1"
    return voxels.view(channel).reshape(*voxels.shape, 4)
