"""Voxels: blocks, lower scales, what reads and writes of them need."""
