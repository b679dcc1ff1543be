"""The supervoxel index: in which blocks a supervoxel lies, with how many voxels."""
