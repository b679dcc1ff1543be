"""The segmentation as a neuroglancer precomputed volume."""
