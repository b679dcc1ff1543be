from dvid_es.datatypes.labelmap.voxels.blockcache import BlockCache


def test_blocks_are_found_under_their_names_one_by_one_or_together():
    cache = BlockCache()
    cache.put(b"a", b"1")
    cache.put(b"b", b"2")
    assert cache.get_many([b"b", b"x", b"a"]) == [b"2", None, b"1"]
    assert (cache.get(b"a"), cache.get(b"x")) == (b"1", None)
    assert b"a" in cache
    assert b"x" not in cache


def test_the_least_recently_used_go_first_and_names_and_entries_count():
    cache = BlockCache(10_000)
    for number in range(200):
        cache.put(b"%08d" % number, bytes(1000))
        cache.get(b"%08d" % 0)
    kept = [number for number in range(200) if b"%08d" % number in cache]
    assert kept[0] == 0
    assert kept[1:] == list(range(200 - len(kept) + 1, 200))
    assert 3 < len(kept) < 10
    for number in range(500):
        cache.put(b"%08d" % number + bytes(100), b"")
    assert len(cache._kept) < 10_000 // 100


def test_what_is_put_again_counts_once():
    cache = BlockCache(10_000)
    for _ in range(50):
        cache.put(b"a", bytes(1000))
    cache.put(b"b", bytes(1000))
    assert b"a" in cache
