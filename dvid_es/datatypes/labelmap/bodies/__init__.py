"""Bodies as sets of supervoxels: merge, cleave, renumber, sizes, lists, counters."""
