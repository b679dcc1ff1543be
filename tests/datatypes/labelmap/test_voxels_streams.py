from __future__ import annotations

import gzip
import threading

import numpy as np
import pytest

from dvid_es.codecs import storedblock
from dvid_es.datatypes.labelmap.voxels import endpoints as endpoints_voxels
from dvid_es.datatypes.labelmap.voxels import reads, volumes
from dvid_es.datatypes.labelmap.voxels.blockcache import BlockCache
from dvid_es.http.answers import Buffers
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
    monkeypatch.setattr(endpoints_voxels, "PART_BYTES", 3000)
    monkeypatch.setattr(storedblock, "PLAIN_BYTES", 1 << 20)  # true of these tables
    parts = live.ok("GET", path)
    assert parts.headers["content-length"] == whole.headers["content-length"]
    assert parts.body == whole.body
    assert len(oracle.split(whole.body)) == 32
    monkeypatch.setattr(storedblock, "PLAIN_BYTES", 0)
    unknown = live.ok("GET", path)
    assert "content-length" not in unknown.headers
    assert unknown.body == whole.body
    assert live.call("HEAD", path).body == b""


def test_an_answer_in_lent_memory_is_whole_and_the_memory_is_used_again(live, node, monkeypatch):
    monkeypatch.setattr(volumes, "SMALL_BYTES", 0)
    monkeypatch.setattr(volumes, "SLAB_BYTES", 8 * 256 * 64 * 3)
    monkeypatch.setattr(volumes, "PLAIN_SLAB_BYTES", 8 * 256 * 64 * 3)
    returned = threading.Condition()

    class Noted(Buffers):
        def give(self, buffer):
            with returned:
                super().give(buffer)
                returned.notify_all()

    buffers = Noted(8 * 256 * 64 * 3, kept_max=2)
    monkeypatch.setattr(volumes, "_BUFFERS", buffers)
    path = f"{node}/raw/0_1_2/256_64_64/0_0_0?supervoxels=true"
    one = live.ok("GET", f"{path}&compression=lz4").body
    for _ in range(3):
        body = live.ok("GET", path).body
        assert body == oracle.unpacked(one, "lz4", (64, 64, 256)).tobytes()
        with (
            returned
        ):  # the last one comes back when its bytes are on their way: maybe after the answer
            assert returned.wait_for(lambda: len(buffers._kept) > 0, 30)


@pytest.mark.parametrize("offset", ["0_0_0", "8_16_8", "8_8_4"])
@pytest.mark.parametrize("compression", ["google", "googlegzip"])
def test_large_segmentations_made_of_slabs_are_those_of_the_whole(
    live, node, monkeypatch, compression, offset
):
    path = f"{node}/raw/0_1_2/200_40_48/{offset}?compression={compression}"
    whole = live.ok("GET", path).body
    monkeypatch.setattr(volumes, "SMALL_BYTES", 0)
    monkeypatch.setattr(volumes, "SLAB_BYTES", 8 * 200 * 40 * 17)
    monkeypatch.setattr(volumes, "_BUFFERS", Buffers(8 * 200 * 40 * 17, kept_max=2))
    slabs = live.ok("GET", path).body
    if compression == "googlegzip":
        whole, slabs = gzip.decompress(whole), gzip.decompress(slabs)
    assert slabs == whole


@pytest.mark.parametrize("compression", ["", "lz4", "gzip"])
@pytest.mark.parametrize("box", ["40_33_50/20_7_9", "64_64_64/128_0_0", "32_32_32/96_0_0"])
def test_boxes_at_once_and_in_threads_are_the_same(live, node, monkeypatch, box, compression):
    path = f"{node}/raw/0_1_2/{box}?compression={compression}"
    live.ok("GET", path)  # leaves its blocks in the cache
    server, answers = live.application.ctx.server, []
    quickly = server.answer_quickly

    def noted(head):
        answers.append(quickly(head))
        return answers[-1]

    monkeypatch.setattr(server, "answer_quickly", noted)
    at_once = live.ok("GET", path)
    assert answers[-1] is not None
    monkeypatch.setattr(volumes, "QUICK_BYTES", 0)
    in_threads = live.ok("GET", path)
    assert answers[-1] is None
    assert at_once.body == in_threads.body
    monkeypatch.setattr(volumes, "QUICK_BYTES", 2 << 20)
    by_sanic = live.ok("GET", path, headers={"Connection": "close"})
    assert at_once.body == by_sanic.body
    for name in ("content-type", "content-length", "x-dvid-es-seq"):
        assert at_once.headers[name] == in_threads.headers[name] == by_sanic.headers[name]


def test_answers_at_once_to_many_clients_do_not_mix(live, node):
    boxes = [f"{node}/raw/0_1_2/40_40_40/{x}_3_5" for x in range(0, 200, 9)]
    want = {path: live.ok("GET", path).body for path in boxes}
    wrong = []

    def read(first):
        for turn in range(3 * len(boxes)):
            path = boxes[(first + 5 * turn) % len(boxes)]
            if live.ok("GET", path).body != want[path]:
                wrong.append(path)

    threads = [threading.Thread(target=read, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    "path",
    [
        "blocks/256_64_64/0_0_0?compression=blocks",
        "blocks/256_64_64/0_0_0?compression=blocks&supervoxels=true",
        "blocks/32_32_32/96_0_0?compression=blocks&supervoxels=true",
        "blocks/256_64_64/0_0_0?compression=lz4",
        "raw/0_1_2/32_32_32/96_0_0?compression=lz4",
        "raw/0_1_2/40_40_40/90_0_0",
        "specificblocks?blocks=3,0,0&compression=blocks",
    ],
)
def test_flipped_bits_are_reported_and_never_served(live, node, settings, monkeypatch, path):
    monkeypatch.setattr(reads, "CACHE", BlockCache())
    whole = live.ok("GET", f"{node}/{path}").body
    (pack,) = settings.data.glob("repos/*/packs/*.pack")
    data = bytearray(pack.read_bytes())
    data[200::997] = bytes(byte ^ 4 for byte in data[200::997])
    pack.write_bytes(data)
    if "raw" in path:
        assert live.ok("GET", f"{node}/{path}").body == whole  # what was verified is in memory
    monkeypatch.setattr(reads, "CACHE", BlockCache())
    answer = live.call("GET", f"{node}/{path}")
    assert answer.status == 500
    assert pack.name.encode() in answer.body
