"""Does an instance agree with itself? Voxels, supervoxel index, bodies, counters; and repair from the log."""
