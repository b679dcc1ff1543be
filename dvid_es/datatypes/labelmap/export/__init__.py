"""Copies of a segmentation in other formats, written to the server's disk by long jobs."""
