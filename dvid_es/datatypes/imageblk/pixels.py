"""Pixels that show voxels.

Source: GetImage2d in datatype/imageblk/imageblk.go (janelia-flyem/dvid).
"""

import numpy as np

from dvid_es.codecs import images
from dvid_es.codecs.images import Format, Pixels
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


def stretched(voxels: Voxels, layout: Layout, height: int, width: int) -> Pixels:
    """Return the pixels of a picture that may be larger than its voxels [rows, columns].

    Each pixel is the mean of what it covers. As in DVID, the four bytes of a voxel of 32 bits are one number
    then, the first byte being the highest.

    Source: InterpolateImage in dvid/image.go (janelia-flyem/dvid).
    """
    if voxels.shape == (height, width) or layout.channels > 1 or layout.dtype.itemsize != 4:
        return images.scaled(pixels_of(voxels, layout), height, width)
    numbers = images.scaled(np.ascontiguousarray(voxels).view(">u4"), height, width)
    return np.ascontiguousarray(numbers, ">u4").view(np.uint8).reshape(height, width, 4)


def in_format(pixels: Pixels, form: Format) -> Pixels:
    """Return pixels as a format shows them: JPEG and BMP have three channels of 8 bits, and no alpha.

    As Go writes them, alpha is multiplied into the colours, and grey of 16 bits becomes three equal channels.
    """
    if form.content_type not in ("image/jpeg", "image/bmp"):
        return pixels
    if pixels.ndim == 2:
        grey = pixels if pixels.dtype.itemsize == 1 else (pixels >> 8).astype(np.uint8)
        return grey if pixels.dtype.itemsize == 1 else np.stack([grey] * 3, axis=-1)
    full = np.iinfo(pixels.dtype).max
    deep = pixels.astype(np.uint32) * (65535 // full)
    colours = deep[..., :3].astype(np.uint64) * pixels[..., 3:] // full
    return (colours >> 8).astype(np.uint8)
