"""DVID's label indices: assembled when asked for, taken apart when posted."""
