"""`dvid-es bench`: named workloads over plain DVID HTTP, on one server or on two in turn."""

from dvid_es.bench.command import bench

__all__ = ["bench"]
