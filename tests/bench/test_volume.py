import gzip

import numpy as np
import pytest

from dvid_es.bench import wire
from dvid_es.bench.volume import BLOCK, from_bodies, load, read_labels
from dvid_es.errors import InvalidRequest


def labels_zyx(dtype: type = np.uint32) -> np.ndarray:
    """Slabs along X within halves along Z; nothing along Y: no two axes alike."""
    volume = np.zeros((128, 64, 192), dtype)
    for x in range(0, 192, 24):
        volume[:64, :, x : x + 24] = 1 + x // 24
        volume[64:, :, x : x + 24] = 5 + x // 24
    volume[:8] = 0
    return volume


def test_a_file_in_c_order_is_zyx_and_one_in_fortran_order_is_xyz(tmp_path):
    volume = labels_zyx()
    np.save(tmp_path / "c.npy", volume)
    np.save(tmp_path / "f.npy", np.asfortranarray(volume.transpose(2, 1, 0)))
    assert np.array_equal(read_labels(tmp_path / "c.npy"), volume)
    assert np.array_equal(read_labels(tmp_path / "f.npy"), volume)


def test_a_gzipped_file_is_read(tmp_path):
    with gzip.open(tmp_path / "a.npy.gz", "wb") as file:
        np.save(file, labels_zyx(np.uint16))
    assert np.array_equal(read_labels(tmp_path / "a.npy.gz"), labels_zyx())


def test_a_crackle_file_is_read(tmp_path):
    crackle = pytest.importorskip("crackle")
    volume = labels_zyx()
    packed = crackle.compress(np.asfortranarray(volume.transpose(2, 1, 0)))
    (tmp_path / "a.npy.ckl.gz").write_bytes(gzip.compress(packed))
    assert np.array_equal(read_labels(tmp_path / "a.npy.ckl.gz"), volume)


def test_without_crackle_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "crackle", None)
    (tmp_path / "a.npy.ckl.gz").write_bytes(gzip.compress(b"crkl"))
    with pytest.raises(InvalidRequest, match="pip install"):
        read_labels(tmp_path / "a.npy.ckl.gz")


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("a.npy", np.zeros((4, 4), np.uint8), "2 axes"),
        ("a.npy", np.zeros((4, 4, 4), np.int32), "int32"),
        ("a.h5", None, "use .npy"),
        ("missing.npy", None, "no file"),
        ("text.npy", None, "not an .npy file"),
    ],
)
def test_other_files_are_refused_with_the_reason(tmp_path, name, array, reason):
    if array is not None:
        np.save(tmp_path / name, array)
    elif "missing" not in name:
        (tmp_path / name).write_bytes(b"some text that is no array at all")
    with pytest.raises(InvalidRequest, match=reason):
        read_labels(tmp_path / name)


@pytest.mark.parametrize("scale", [1, 1 << 21, 1 << 40])
def test_bodies_are_the_labels_and_supervoxels_end_at_the_faces_of_boxes(scale):
    labels = labels_zyx(np.uint64) * np.uint64(scale)
    data = from_bodies("made", labels)
    bodies = data.body_of[data.supervoxels]
    pairs = np.unique(np.stack([bodies.ravel(), labels.ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
    assert (bodies[labels == 0] == 0).all()
    for supervoxel in data.present:
        places = np.argwhere(data.supervoxels == supervoxel) // 128
        assert (places == places[0]).all()
    assert max(len(members) for members in data.members.values()) > 1


def test_a_body_is_called_by_its_smallest_supervoxel():
    data = from_bodies("made", labels_zyx())
    assert data.members
    for body, members in data.members.items():
        assert body == min(members)
        assert data.body_of[members].tolist() == [body] * len(members)


def test_sizes_count_the_voxels_of_each_supervoxel(small_data):
    labels, counts = np.unique(small_data.supervoxels, return_counts=True)
    assert small_data.sizes[labels.astype(int)].tolist() == counts.tolist()
    assert small_data.present == [one for one in labels.tolist() if one]


def test_the_stream_holds_the_volume(small_data):
    volume = wire.decode_stream(small_data.stream, small_data.shape_zyx, BLOCK)
    assert np.array_equal(volume, small_data.supervoxels)


def test_a_file_is_cut_to_whole_blocks(tmp_path):
    np.save(tmp_path / "a.npy", labels_zyx()[:100])
    data = load(str(tmp_path / "a.npy"), 150)
    assert data.shape_zyx == (64, 64, 128)


@pytest.mark.parametrize("source", ["synthetic", "a.npy"])
def test_less_than_a_block_is_refused(tmp_path, source):
    np.save(tmp_path / "a.npy", labels_zyx())
    with pytest.raises(InvalidRequest, match="less than one block"):
        load(source if source == "synthetic" else str(tmp_path / source), 63)
