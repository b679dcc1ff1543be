from __future__ import annotations

from typing import Any

import numpy as np

from dvid_es.datatypes.labelarray import LABELARRAY, touched
from dvid_es.datatypes.labelarray.events import LabelsMerged, LabelSplit
from dvid_es.datatypes.labelvol import LABELVOL
from dvid_es.datatypes.labelvol.events import AreaDeleted
from dvid_es.events import decode
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.voxel_oracle import Segmentation

NOTHING: dict[str, Any] = {"coords": b"", "blocks": (), "counts": b""}


def fetch(value: Any) -> bytes:
    assert isinstance(value, bytes)
    return value


def test_merges_and_splits_say_which_labels_they_touch() -> None:
    merges = [
        LabelsMerged(target=3, labels=np.array([5, 8], "<u8").tobytes(), **NOTHING),
        LabelsMerged(target=1, labels=np.array([2], "<u8").tobytes(), **NOTHING),
    ]
    found = LABELARRAY.touched[LabelsMerged](merges, fetch)
    assert found.targets is not None
    assert found.targets.tolist() == [3, 1]
    rows = {row.role: (row.events.tolist(), row.labels.tolist()) for row in found.rows}
    assert rows == {"target": ([0, 1], [3, 1]), "merged": ([0, 0, 1], [5, 8, 2])}
    split = LabelSplit(label=3, new_label=9, runs=b"", coarse=True, **NOTHING)
    found = LABELARRAY.touched[LabelSplit]([split], fetch)
    rows = {row.role: (row.events.tolist(), row.labels.tolist()) for row in found.rows}
    assert rows == {"target": ([0], [3]), "new": ([0], [9])}
    dropped = LABELVOL.touched[AreaDeleted]([AreaDeleted(label=7, **NOTHING)], fetch)
    assert dropped.targets is not None
    assert dropped.targets.tolist() == [7]


def test_edits_say_which_blocks_they_write(live: Any) -> None:
    volume = oracle.cells((64, 64, 64), 2, 3)
    root = live.new_repo()
    node = live.new_instance(root, "labelarray", "seg", BlockSize="32,32,32")
    Segmentation(live, root).post(volume)
    live.ok("POST", f"{node}/merge", json_body=[1, 2])
    stream = live.engine.streams.get(root)
    (stored,) = stream.log.read(stream.log.end - 1, stream.log.end)
    coords, scale = LABELARRAY.placed[LabelsMerged](decode(*stored).event)
    assert scale == 0
    places = np.frombuffer(fetch(coords), "<i4").reshape(-1, 3)
    assert np.array_equal(places, np.unique(np.argwhere(volume == 2) // 32, axis=0))


def test_the_table_of_labels_holds_all_of_a_version(live: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(touched, "PAGE_LABELS", 4)
    volume = oracle.cells((64, 64, 64), 11, 3)
    root = live.new_repo()
    live.new_instance(root, "labelarray", "seg", BlockSize="32,32,32")
    Segmentation(live, root).post(volume)
    stream = live.engine.streams.get(root)
    with live.engine.store.read(root, stream.packs) as txn:
        instance, view = txn.repo.names["seg"], txn.view(1)
        pages = list(LABELARRAY.tables["labels"].read(txn, instance, view))
    assert len(pages) == 3
    found = {}
    for labels, voxels in pages:
        found |= dict(zip(labels.tolist(), voxels.tolist(), strict=True))
    assert found == oracle.sizes(volume)
