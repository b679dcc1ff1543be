"""Which body a supervoxel belongs to."""
