from __future__ import annotations

import numpy as np
import pytest

from dvid_es.datatypes.labelmap.voxels import endpoints as endpoints_voxels
from tests.datatypes.labelmap import voxel_oracle as oracle


@pytest.fixture
def node(live):
    node = live.new_instance(live.new_repo(), "labelmap", "seg", BlockSize="32,32,32")
    volume = oracle.cells((64, 64, 256), 400, seed=5)
    volume[:, :, :96] = 9  # blocks so small that they lie in their rows
    volume[:, :, 96:128] = np.random.default_rng(1).integers(1, 400, (64, 64, 32))
    live.ok("POST", f"{node}/raw/0_1_2/256_64_64/0_0_0", volume.tobytes())
    live.ok("POST", f"{node}/merge", json_body=[9, 10, 11])
    return node


@pytest.mark.parametrize("supervoxels", ["true", "false"])
def test_a_stream_made_in_parts_is_the_one_made_in_one_go(live, node, monkeypatch, supervoxels):
    path = f"{node}/blocks/256_64_64/0_0_0?compression=blocks&supervoxels={supervoxels}"
    whole = live.ok("GET", path)
    assert "content-length" in whole.headers
    monkeypatch.setattr(endpoints_voxels, "WHOLE_BYTES", 0)
    monkeypatch.setattr(endpoints_voxels, "STREAMED_BLOCKS", 5)
    parts = live.ok("GET", path)
    assert "content-length" not in parts.headers
    assert parts.body == whole.body
    assert len(oracle.split(whole.body)) == 32
