"""The workloads of the bench, in the order in which they run."""

from dvid_es.bench.workloads.base import Workload
from dvid_es.bench.workloads.bodies import BODIES
from dvid_es.bench.workloads.huge import HUGE_BODIES
from dvid_es.bench.workloads.mutations import MUTATIONS
from dvid_es.bench.workloads.small_requests import SMALL_REQUESTS
from dvid_es.bench.workloads.voxel_reads import VOXEL_READS
from dvid_es.bench.workloads.voxel_writes import VOXEL_WRITES

WORKLOADS: tuple[type[Workload], ...] = (
    *SMALL_REQUESTS,
    *VOXEL_READS,
    *VOXEL_WRITES,
    *MUTATIONS,
    *HUGE_BODIES,
    *BODIES,
)
