"""What bodies must be, kept in dictionaries and numpy arrays; and every read compared with it."""

from __future__ import annotations

import copy
import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvid_es.codecs import izyx, labelindex, messages_pb2

BLOCK = 32


class Model:
    """One version: voxels of supervoxels, the mapping, the sets of bodies."""

    def __init__(self, volume: NDArray[np.uint64]) -> None:
        self.volume = volume.copy()
        self.mapping: dict[int, int] = {}
        self.bodies: dict[int, set[int]] = {sv: {sv} for sv in self.counts()}
        self.last: dict[int, int] = {}

    def child(self) -> Model:
        return copy.deepcopy(self)

    def counts(self) -> dict[int, int]:
        labels, counts = np.unique(self.volume[self.volume > 0], return_counts=True)
        return dict(zip(labels.tolist(), counts.tolist(), strict=True))

    def size(self, body: int) -> int:
        counts = self.counts()
        return sum(counts.get(sv, 0) for sv in self.bodies.get(body, ()))

    def merge(self, target: int, merged: list[int], mutation: int) -> None:
        for body in merged:
            for sv in self.bodies.pop(body):
                self.bodies[target].add(sv)
                self.mapping[sv] = target
        self.last[target] = mutation

    def cleave(self, body: int, svs: list[int], new: int, mutation: int) -> None:
        moved = set(svs) & self.bodies[body]
        self.bodies[body] -= moved
        self.bodies[new] = moved
        self.mapping.update(dict.fromkeys(svs, new))
        self.mapping[new] = 0
        self.last[body] = self.last[new] = mutation

    def renumber(self, new: int, old: int) -> None:
        if new not in self.mapping and new not in self.counts():
            self.mapping[new] = 0
        self.bodies[new] = self.bodies.pop(old)
        self.mapping.update(dict.fromkeys(self.bodies[new], new))

    def write(self, volume: NDArray[np.uint64]) -> None:
        before = self.counts()
        self.volume = volume.copy()
        after = self.counts()
        for sv in before.keys() | after.keys():
            owners = (body for body, svs in self.bodies.items() if sv in svs)
            body = next(owners, self.mapping.get(sv, sv))
            if body == 0 or before.get(sv, 0) == after.get(sv, 0):
                continue
            if sv in after:
                self.bodies.setdefault(body, set()).add(sv)
            elif sv in self.bodies.get(body, ()):
                self.bodies[body].discard(sv)
                if not self.bodies[body]:
                    del self.bodies[body]

    def mask(self, svs: set[int]) -> NDArray[np.bool_]:
        return np.isin(self.volume, np.array(sorted(svs), np.uint64))

    def blocks(self, svs: set[int]) -> dict[tuple[int, int, int], dict[int, int]]:
        """Voxels of each supervoxel in each block (ZYX)."""
        found: dict[tuple[int, int, int], dict[int, int]] = {}
        for sv in svs:
            places = np.argwhere(self.volume == sv) // BLOCK
            cells, counts = np.unique(places, axis=0, return_counts=True)
            for cell, count in zip(cells.tolist(), counts.tolist(), strict=True):
                found.setdefault(tuple(cell), {})[sv] = count
        return found

    def mapped(self, sv: int, verify: bool) -> int:
        if sv == 0:
            return 0
        if sv in self.mapping:
            return self.mapping[sv]
        return sv if not verify or sv in self.bodies.get(sv, ()) else 0

    def as_bodies(self) -> NDArray[np.uint64]:
        labels, places = np.unique(self.volume, return_inverse=True)
        mapped = np.array([self.mapped(int(sv), False) for sv in labels], np.uint64)
        return mapped[places].reshape(self.volume.shape)


def decode_runs(data: bytes, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The mask of a sparse volume; asserts strict order and joined runs."""
    mask = np.zeros(shape, bool)
    assert data[:4] == b"\0\3\0\0"
    spans = struct.unpack_from("<I", data, 8)[0]
    runs = np.frombuffer(data, "<i4", 4 * spans, 12).reshape(-1, 4)
    assert len(data) == 12 + 16 * spans
    ends = None
    for x, y, z, length in runs.tolist():
        assert not mask[z, y, x : x + length].any()
        assert ends is None or (z, y, x) > ends, "in Z, Y, X order, and joined where they touch"
        mask[z, y, x : x + length] = True
        ends = (z, y, x + length)
    return mask


def check_version(live: Any, node: str, model: Model, extra: list[int]) -> None:
    """Compare every read endpoint of bodies at one version with the model."""
    ids = sorted(model.bodies.keys() | model.counts().keys() | model.mapping.keys() | set(extra))
    labels = sorted(model.bodies)
    sizes = {label: model.size(label) for label in labels}
    counts = model.counts()
    assert live.ok("GET", f"{node}/existing-labels").json() == labels
    listed = np.frombuffer(live.ok("GET", f"{node}/listlabels?sizes=true").body, "<u8")
    assert listed.reshape(-1, 2).tolist() == [[label, sizes[label]] for label in labels]
    got = live.ok("GET", f"{node}/sizes", json_body=ids).json()
    assert got == [sizes.get(label, 0) for label in ids]
    of_sv = {
        sv: counts.get(sv, 0) if sv in model.bodies.get(model.mapped(sv, False), ()) else 0
        for sv in ids
    }
    got = live.ok("GET", f"{node}/sizes?supervoxels=true", json_body=ids).json()
    assert got == [of_sv[sv] for sv in ids]
    for verify in (True, False):
        query = "" if verify else "?nolookup=true"
        got = live.ok("GET", f"{node}/mapping{query}", json_body=ids).json()
        assert got == [model.mapped(sv, verify) for sv in ids]
    entries = sorted((sv, body) for sv, body in model.mapping.items() if sv != body)
    text = live.ok("GET", f"{node}/mappings").text
    assert text == "".join(f"{sv} {body}\n" for sv, body in entries)
    binary = live.ok("GET", f"{node}/mappings?format=binary").body
    assert np.frombuffer(binary, "<u8").reshape(-1, 2).tolist() == [list(e) for e in entries]
    z, y, x = model.volume.shape
    raw = live.ok("GET", f"{node}/raw/0_1_2/{x}_{y}_{z}/0_0_0").body
    assert np.array_equal(np.frombuffer(raw, "<u8").reshape(z, y, x), model.as_bodies())
    for label in ids:
        _check_body(live, node, model, label, sizes)
    _check_indices(live, node, model, ids)


def _check_body(live: Any, node: str, model: Model, label: int, sizes: dict[int, int]) -> None:
    svs = model.bodies.get(label, set())
    if not svs:
        for path in ("size", "supervoxels", "sparsevol", "sparsevol-coarse", "lastmod"):
            assert live.call("GET", f"{node}/{path}/{label}").status == 404
        assert live.call("HEAD", f"{node}/sparsevol/{label}").status == 204
        return
    assert live.ok("GET", f"{node}/size/{label}").json() == {"voxels": sizes[label]}
    assert live.ok("GET", f"{node}/supervoxels/{label}").json() == sorted(svs)
    counts = model.counts()
    assert live.ok("GET", f"{node}/supervoxel-sizes/{label}").json() == {
        "supervoxels": sorted(svs), "sizes": [counts[sv] for sv in sorted(svs)],
    }  # fmt: skip
    mask = model.mask(svs)
    runs = live.ok("GET", f"{node}/sparsevol/{label}").body
    assert np.array_equal(decode_runs(runs, mask.shape), mask)
    blocks = model.blocks(svs)
    coarse = live.ok("GET", f"{node}/sparsevol-coarse/{label}").body
    covered = np.zeros([side // BLOCK for side in mask.shape], bool)
    for cell in blocks:
        covered[cell] = True
    assert np.array_equal(decode_runs(coarse, covered.shape), covered)
    cells = np.array(sorted(blocks))
    assert live.ok("GET", f"{node}/sparsevol-size/{label}").json() == {
        "voxels": sizes[label], "numblocks": len(blocks),
        "minvoxel": (cells.min(axis=0) * BLOCK)[::-1].tolist(),
        "maxvoxel": (cells.max(axis=0) * BLOCK + BLOCK - 1)[::-1].tolist(),
    }  # fmt: skip
    lastmod = live.ok("GET", f"{node}/lastmod/{label}").json()
    assert lastmod["mutation id"] == model.last.get(label, 0)


def _check_indices(live: Any, node: str, model: Model, ids: list[int]) -> None:
    message = messages_pb2.LabelIndices()
    message.ParseFromString(live.ok("GET", f"{node}/indices", json_body=ids).body)
    assert [index.label for index in message.indices] == ids
    for index in message.indices:
        blocks = {
            tuple(izyx.unpack_key(key)): dict(value.counts) for key, value in index.blocks.items()
        }
        assert blocks == model.blocks(model.bodies.get(index.label, set()))
        single = live.call("GET", f"{node}/index/{index.label}")
        assert single.status == (200 if index.label in model.bodies else 404)
        if single.status == 200:
            assert labelindex.decode(single.body).voxels == model.size(index.label)


def mapping_ops(entries: dict[int, int]) -> bytes:
    message = messages_pb2.MappingOps()
    for sv, body in entries.items():
        message.mappings.add(mutid=1, mapped=body, original=[sv])
    return message.SerializeToString()


def index_message(label: int, blocks: dict[tuple[int, int, int], dict[int, int]]) -> Any:
    message = messages_pb2.LabelIndex(label=label)
    for cell, counts in blocks.items():
        for sv, count in counts.items():
            message.blocks[izyx.pack_key(cell)].counts[sv] = count
    return message


def volume_of(shape: tuple[int, int, int], labels: int, seed: int) -> NDArray[np.uint64]:
    """Cells around random points, a fifth of them background."""
    rng = np.random.default_rng(seed)
    points = rng.integers(0, shape, (labels, 3))
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    nearest = ((grid[:, None, :] - points[None]) ** 2).sum(-1).argmin(axis=1) + 1
    nearest[nearest % 5 == 0] = 0
    return nearest.reshape(shape).astype(np.uint64)


def dumps(value: Any) -> bytes:
    return json.dumps(value).encode()
