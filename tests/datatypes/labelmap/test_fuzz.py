"""Damaged requests over HTTP: each is granted whole or refused with a text, and nothing is left."""

from __future__ import annotations

import gzip
import json
import struct
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lz4.block
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dvid_es.codecs import messages_pb2
from dvid_es.settings import Settings
from tests.datatypes.labelmap import split_cases as cases
from tests.datatypes.labelmap import voxel_oracle as oracle
from tests.datatypes.labelmap.body_model import mapping_ops
from tests.datatypes.labelmap.test_fsck import finished

SIDE = 32
SHAPE = (64, 64, 64)
EXTREMES = [0, 1, 2**7, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
bounded = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def live(run_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder: Path = tmp_path_factory.mktemp("fuzz") / "data"
    with run_server(Settings(data=folder, admin_token="secret", allow_split=True)) as server:
        yield server


def volume() -> oracle.Volume:
    found = oracle.cells(SHAPE, 12, 5)
    found[found == 12] = 0
    return found


@pytest.fixture(scope="module")
def seg(live: Any) -> Iterator[str]:
    """An instance with a history; after all that a test did to it, its checks find nothing."""
    node = live.new_instance(
        live.new_repo(), "labelmap", "seg", BlockSize="32,32,32", MaxDownresLevel="1"
    )
    live.ok("POST", f"{node}/raw/0_1_2/64_64_64/0_0_0", volume().tobytes())
    live.ok("POST", f"{node}/merge", json_body=[1, 2, 3])
    live.ok("POST", f"{node}/cleave/1", json_body=[2])
    yield node
    sound(live, node)


def sound(live: Any, node: str) -> None:
    report = finished(live, f"{node}/fsck?deep=true")
    assert report["errors"] == 0, report


@st.composite
def damaged(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid payload after a few accidents."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        to = min(len(data), at + draw(st.sampled_from([1, 4, 16, 100, 2**20])))
        kind = draw(st.sampled_from(["flip", "cut", "drop", "repeat", "splice", "field", "noise"]))
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at:]
        elif kind == "drop":
            del data[at:to]
        elif kind == "repeat":
            data[at:at] = data[at:to] * draw(st.sampled_from([1, 2, 40]))
        elif kind == "splice":
            other = draw(st.integers(0, len(data)))
            data[at:to] = data[other : other + 64]
        elif kind == "field":
            # The first fields of a payload are its lengths.
            place = draw(st.one_of(st.integers(0, 12), st.just(at // 4))) * 4
            width = draw(st.sampled_from([4, 8]))
            value = draw(st.sampled_from(EXTREMES)) % 2 ** (8 * width)
            data[place : place + width] = value.to_bytes(width, "little")
        else:
            data[at:to] = draw(st.binary(max_size=40))
    return bytes(data)


def send(live: Any, path: str, body: bytes, method: str = "POST") -> Any:
    """One request; the state stays the same unless it is granted."""
    before = cases.state(live) if method == "POST" else None
    answer = live.call(method, path, body)
    if answer.status == 307 and "//" in path:
        answer = live.call(method, answer.headers["location"], body)
    told = f"{method} {path} {body[:200]!r}: {answer.status} {answer.body[:300]!r}"
    assert answer.status == 200 or 400 <= answer.status < 500, told
    if answer.status != 200:
        if method == "POST":
            assert answer.body.strip(), told
            assert cases.state(live) == before, told
        assert "Traceback" not in answer.body.decode(errors="replace"), told
    return answer


PARTS = [
    ((0, 0, 0), oracle.part(volume(), (0, 0, 0), SIDE)),
    ((1, 1, 0), oracle.part(volume(), (1, 1, 0), SIDE)),
]
STREAM = oracle.joined([(xyz, oracle.packed(block)) for xyz, block in PARTS])
BLOCK = oracle.encoded(PARTS[0][1])
MAPPINGS = mapping_ops({500: 1, 501: 1, 502: 4, 503: 503})


@bounded
@given(body=damaged(STREAM), scale=st.sampled_from(["0", "0", "1", "200", "256", "-1", "x"]))
def test_damaged_streams_of_blocks(live: Any, seg: str, body: bytes, scale: str) -> None:
    # Lower scales come of scale 0 alone: what a client gives them may differ, as fsck would say.
    answer = send(live, f"{seg}/blocks?scale={scale}&downres=true", body)
    assert answer.status == 400 or scale == "0"


@bounded
@given(body=damaged(BLOCK), copies=st.sampled_from([1, 1, 2]), whole=st.booleans())
def test_damaged_blocks_in_streams_that_are_whole(
    live: Any, seg: str, body: bytes, copies: int, whole: bool
) -> None:
    packed = gzip.compress(body, 1)
    stream = oracle.joined([((0, 1, 0), packed)] * copies)
    if not whole:
        stream += STREAM
    send(live, f"{seg}/blocks?downres=true", stream)


@pytest.fixture(scope="module")
def loaded(live: Any) -> Iterator[str]:
    node: str = live.new_instance(live.new_repo(), "labelmap", "loaded", BlockSize="32,32,32")
    yield node
    sound(live, node)


@bounded
@given(
    body=st.one_of(
        damaged(STREAM),
        damaged(BLOCK).map(lambda b: oracle.joined([((0, 0, 0), gzip.compress(b, 1))])),
    )
)
def test_damaged_streams_of_ingested_supervoxels(live: Any, loaded: str, body: bytes) -> None:
    send(live, f"{loaded}/ingest-supervoxels", body)


VOXELS = oracle.part(volume(), (0, 0, 0), SIDE).tobytes()
COMPRESSED = {"lz4": lz4.block.compress(VOXELS, store_size=False), "gzip": gzip.compress(VOXELS, 1)}


@bounded
@given(st.data(), st.sampled_from(["lz4", "gzip", "", "google"]))
def test_damaged_volumes_in_every_compression(live: Any, seg: str, data: Any, kind: str) -> None:
    valid = COMPRESSED.get(kind, VOXELS[:4096])
    body = data.draw(damaged(valid))
    answer = send(live, f"{seg}/raw/0_1_2/32_32_32/32_0_0?compression={kind}", body)
    assert answer.status == 400 or kind in COMPRESSED


@bounded
@given(
    st.data(),
    st.sampled_from(
        ["split-supervoxel/4", "split-supervoxel/4?split=70&remain=71", "split/1", "split/4"]
    ),
)
def test_damaged_runs(live: Any, seg: str, data: Any, path: str) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[volume() == (1 if path == "split/1" else 4)] = True
    mask[:, :, ::3] = False
    body = data.draw(damaged(cases.blob_of(mask)[: data.draw(st.sampled_from([44, 2000, 2**20]))]))
    head = data.draw(st.booleans())
    if head and len(body) >= 12:
        body = body[:8] + struct.pack("<I", (len(body) - 12) // 16) + body[12:]
    send(live, f"{seg}/{path}", body)


@bounded
@given(body=damaged(MAPPINGS))
def test_damaged_mappings(live: Any, body: bytes) -> None:
    node = _fresh(live)
    send(live, f"{node}/mappings", body)


def _fresh(live: Any) -> str:
    """One instance for all mappings and indices that clients may set as they please."""
    found: str | None = getattr(live, "fuzzed", None)
    if found is None:
        found = live.new_instance(live.new_repo(), "labelmap", "fuzzed", BlockSize="32,32,32")
        live.ok("POST", f"{found}/raw/0_1_2/64_64_64/0_0_0", volume().tobytes())
        live.fuzzed = found
    return found


def _index(live: Any) -> tuple[bytes, bytes]:
    node = _fresh(live)
    if not hasattr(live, "indices"):
        many = live.ok("GET", f"{node}/indices", json_body=[4, 5, 6]).body
        live.indices = (live.ok("GET", f"{node}/index/4").body, many)
    found: tuple[bytes, bytes] = live.indices
    return found


@bounded
@given(st.data(), st.booleans())
def test_damaged_indices_never_break_reading(live: Any, data: Any, many: bool) -> None:
    body = data.draw(damaged(_index(live)[many]))
    node = _fresh(live)
    answer = send(live, f"{node}/indices" if many else f"{node}/index/4", body)
    if answer.status == 200:
        message: Any = messages_pb2.LabelIndices if many else messages_pb2.LabelIndex
        message.FromString(body)  # what protobuf itself cannot read must not be granted
        for path in ("index/4", "size/4", "supervoxels/4", "sparsevol/4", "sparsevol-coarse/4"):
            send(live, f"{node}/{path}", b"", "GET")
        send(live, f"{node}/indices", b"[4,5,6]", "GET")
        send(live, f"{node}/listlabels?sizes=true", b"", "GET")


LISTS = [
    ("POST", "merge", [4, 5]), ("POST", "cleave/1", [3]), ("POST", "renumber", [900, 6]),
    ("POST", "nextlabel/3", []), ("POST", "extents", {"MinPoint": [0, 0, 0], "MaxPoint": [9, 9, 9]}),
    ("POST", "resolution", [8.0, 8.0, 8.0]), ("POST", "tags", {"a": "b"}),
    ("GET", "sizes", [1, 2, 3]), ("GET", "mapping", [1, 2, 3]), ("GET", "labels", [[1, 2, 3], [4, 5, 6]]),
    ("GET", "indices", [1, 4]), ("GET", "indices-compressed", [1, 4]),
]  # fmt: skip
ODD = ["null", "[]", "{}", "[null]", "[[]]", "[-1]", "[1.5]", "[1e400]", '["4"]', "[18446744073709551616]",
       "[true]", "[0]", "[4,4]", "NaN", "[NaN]", "[" * 5000, "", "[4", "[4]]", "\ufeff[4]",
       '{"a":1,"a":2}']  # fmt: skip


@bounded
@given(st.data(), st.sampled_from(LISTS))
def test_damaged_json(live: Any, seg: str, data: Any, what: tuple[str, str, Any]) -> None:
    method, path, valid = what
    odd = st.sampled_from(ODD).map(str.encode)
    body = data.draw(st.one_of(damaged(json.dumps(valid).encode()), odd))
    send(live, f"{seg}/{path}", body, method)


number = st.one_of(
    st.integers(-70, 200).map(str),
    st.sampled_from([*map(str, EXTREMES), "-2147483648", "2147483648", "", "x", "1.5", "1e3", "+3", "٣",
                     " 1", "0x10", "1_0", "-", "%00", "9" * 400]),
)  # fmt: skip
coordinates = st.lists(number, max_size=4).map("_".join)
PATHS = [
    "raw/0_1_2/{}/{}", "raw/0_1_2/{}/{}?compression=lz4", "raw/xy/{}/{}/png", "isotropic/xz/{}/{}",
    "pseudocolor/0_1/{}/{}", "blocks/{}/{}", "blocks/{}/{}?compression=blocks&supervoxels=true",
    "label/{}?scale={}", "sparsevol-by-point/{}?scale={}", "specificblocks?blocks={}&scale={}",
    "sparsevol/{}?scale={}", "sparsevol/1?minx={}&maxz={}", "sparsevol-coarse/1?miny={}&maxx={}",
    "sparsevols-coarse/{}/{}", "listlabels?start={}&number={}", "size/{}?supervoxels={}", "index/{}",
    "proximity/{}/{}", "sparsevol/4?format=blocks&maxy={}&scale={}", "supervoxels/{}", "lastmod/{}",
    "history/{}/{}", "sparsevol-size/{}", "index-version/{}", "fvdb/{}?scale={}", "sizes/{}?at={}",
    "precomputed/{}/{}", "lineage/{}", "diff?from={}&to={}",
]  # fmt: skip


@settings(bounded, max_examples=250)
@given(st.sampled_from(PATHS), st.one_of(number, coordinates), st.one_of(number, coordinates))
def test_odd_numbers_in_paths(live: Any, seg: str, path: str, first: str, second: str) -> None:
    quoted = (urllib.parse.quote(text, safe="%") for text in (first, second))
    send(live, f"{seg}/{path.format(*quoted)}", b"", "GET")
