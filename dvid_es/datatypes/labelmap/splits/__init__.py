"""Splits of supervoxels and bodies."""
