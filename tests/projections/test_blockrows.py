import numpy as np

from dvid_es.ids import PackRef
from dvid_es.projections.blockrows import pack_value, read_columns


def test_columns_say_what_the_rows_say():
    rng = np.random.default_rng(3)
    found = []
    for number in range(300):
        if number % 3 == 0:
            found.append(rng.integers(0, 256, int(rng.integers(0, 90)), np.uint8).tobytes())
        else:
            pack, length, checksum = (int(word) for word in rng.integers(0, 1 << 32, 3))
            offset = int(rng.integers(0, 1 << 48))
            found.append(PackRef(pack, offset, length, checksum, rng.bytes(16)))
    columns = read_columns([pack_value(one) for one in found])
    for start, stop in ((0, 300), (7, 8), (9, 10), (250, 300), (5, 5)):
        part, wanted = columns.part(start, stop), found[start:stop]
        refs = [one for one in wanted if isinstance(one, PackRef)]
        assert [*zip(*part.places_packed(), strict=True)] == [ref[:4] for ref in refs]
        lengths = [one.length if isinstance(one, PackRef) else len(one) for one in wanted]
        assert part.lengths.tolist() == lengths
        for place, one in enumerate(wanted):
            assert part.packed[place] == isinstance(one, PackRef)
            at = int(part.starts[place]) + 1
            assert part.packed[place] or part.data[at : at + len(one)] == one


def test_no_rows_have_empty_columns():
    columns = read_columns([])
    assert columns.lengths.sum() == 0
    assert [len(column) for column in columns.places_packed()] == [0, 0, 0, 0]
