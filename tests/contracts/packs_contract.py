import threading
from pathlib import Path

import pytest

from dvid_es.errors import CorruptPack, InvalidRequest, WritesHalted
from dvid_es.logs import Packs
from dvid_es.logs.base import DIGEST_BYTES, MAX_VALUE_BYTES, Places
from dvid_es.logs.checksums import content_digest, crc32c
from tests.contracts.log_contract import huge


def value(number: int, size: int = 100) -> bytes:
    """Return a value that follows from `number`; different for each."""
    return b"%08d" % number + bytes((number * 31 + place) % 251 for place in range(size - 8))


def places(refs) -> Places:
    return Places(*(list(column) for column in [*zip(*refs, strict=True)][:4])) if refs else NOWHERE


NOWHERE = Places((), (), (), ())


class PacksContract:
    """What all packs must do; a subclass says how to open some."""

    def open_packs(self, folder: Path) -> Packs:
        raise NotImplementedError

    @pytest.fixture
    def packs(self, tmp_path):
        packs = self.open_packs(tmp_path / "packs")
        yield packs
        packs.close()

    def test_what_is_put_is_got(self, packs):
        values = [value(number, 8 + 50 * number) for number in range(30)]
        refs = packs.put_many(values)
        packs.sync()
        assert [packs.get(ref) for ref in refs] == values
        assert packs.get(packs.put(b"one more")) == b"one more"
        assert list(packs.verify()) == []

    def test_a_reference_names_length_checksum_and_digest(self, packs):
        ref = packs.put(value(1))
        assert ref.length == 100
        assert ref.checksum == crc32c(value(1))
        assert ref.digest == content_digest(value(1))
        assert len(ref.digest) == DIGEST_BYTES

    def test_an_empty_value_is_a_value(self, packs):
        assert packs.get(packs.put(b"")) == b""
        assert packs.get_many([packs.put(b""), packs.put(b"x")]) == [b"", b"x"]

    def test_putting_nothing_gives_no_references(self, packs):
        assert packs.put_many([]) == []
        assert packs.get_many([]) == []

    def test_equal_values_are_stored_once(self, packs):
        first = packs.put(value(1))
        assert packs.put(value(1)) == first
        assert packs.put_many([value(2), value(1), value(2)])[1] == first
        again = packs.put_many([value(2), value(2)])
        assert again[0] == again[1]

    def test_values_are_got_in_the_order_of_the_references(self, packs):
        refs = packs.put_many([value(number, 5000) for number in range(40)])
        order = [*range(39, -1, -3), 7, 7, 0]
        assert packs.get_many([refs[place] for place in order]) == [
            value(place, 5000) for place in order
        ]

    def test_values_lie_in_one_buffer_where_it_is_said(self, packs):
        refs = packs.put_many([value(number, 5000) for number in range(40)])
        far = packs.put_many([value(number, 200_000) for number in range(40, 60)])
        for chosen in (refs, refs[::-1], refs[3:7], [*refs, far[-1]], [far[-1], refs[0]], [], far):
            data, starts = packs.get_joined(places(chosen))
            found = [data[at : at + ref.length] for at, ref in zip(starts, chosen, strict=True)]
            assert found == packs.get_many(chosen)
            assert starts == sorted(starts)

    def test_values_are_joined_in_memory_that_the_caller_gives(self, packs):
        refs = packs.put_many([value(number, 5000) for number in range(8)])
        memory = bytearray(100_000)
        data, starts = packs.get_joined(
            places(refs), take=lambda size: memoryview(memory)[7:][:size]
        )
        assert [data[at : at + 5000] for at in starts] == packs.get_many(refs)
        assert memory[7 : 7 + len(data)] == data

    def test_whoever_verifies_joined_values_sees_all_of_them(self, packs):
        refs = packs.put_many([value(number, 5000) for number in range(8)])
        seen = []

        def find_damage(data, starts, lengths, checksums):
            assert [*lengths] == [ref.length for ref in refs]
            assert [*checksums] == [ref.checksum for ref in refs]
            seen.append([bytes(data[at : at + 5000]) for at in starts])
            return -1

        packs.get_joined(places(refs), find_damage)
        assert seen == [packs.get_many(refs)]

    def test_views_of_memory_of_any_shape_are_values(self, packs):
        data = bytes(range(240))
        view = memoryview(data)
        assert packs.get(packs.put(view[10:20])) == data[10:20]
        assert packs.get(packs.put(view[::3])) == data[::3]
        assert packs.get(packs.put(view.cast("I"))) == data
        assert packs.get(packs.put(view.cast("B", (12, 20)))) == data
        assert packs.get(packs.put(memoryview(bytearray(data)))) == data

    def test_a_large_value_is_kept(self, packs):
        data = value(1, 3_000_001)
        assert packs.get(packs.put(memoryview(data))) == data

    def test_a_value_may_be_viewed_where_it_lies(self, packs):
        values = [b"", value(1), value(2, 500_001)]
        for ref, data in zip(packs.put_many(values), values, strict=True):
            view = packs.view(ref)
            assert view == data
            assert view.readonly

    def test_many_values_are_put_at_once(self, packs):
        values = [value(number, 9 + number % 5) for number in range(3000)]
        assert packs.get_many(packs.put_many(values)) == values

    def test_a_value_that_is_too_large_is_refused_with_all_of_its_batch(self, packs):
        with pytest.raises(InvalidRequest):
            packs.put_many([value(1), huge(MAX_VALUE_BYTES + 1)])
        with pytest.raises(InvalidRequest):
            packs.put(memoryview(huge_view()))
        assert packs.get(packs.put(value(1))) == value(1)

    def test_a_reference_to_nothing_is_refused(self, packs):
        ref = packs.put(value(1))
        for wrong in (
            ref._replace(pack=9),
            ref._replace(offset=ref.offset + 100_000),
            ref._replace(offset=ref.offset + 1),
            ref._replace(length=ref.length - 1),
            ref._replace(length=MAX_VALUE_BYTES),
            ref._replace(length=MAX_VALUE_BYTES + 1),
            ref._replace(length=-1),
            ref._replace(offset=-1),
            ref._replace(checksum=ref.checksum ^ 1),
        ):
            with pytest.raises(CorruptPack):
                packs.get(wrong)
            with pytest.raises(CorruptPack):
                packs.view(wrong)
            with pytest.raises(CorruptPack):
                packs.get_many([ref, wrong, ref])
            for wanted in ([ref, wrong, ref], [wrong], [wrong, wrong]):
                with pytest.raises(CorruptPack):
                    packs.get_joined(places(wanted))

    def test_closed_packs_take_no_values_and_close_again(self, packs):
        packs.close()
        packs.close()
        with pytest.raises(WritesHalted):
            packs.put(value(1))
        with pytest.raises(WritesHalted):
            packs.sync()

    def test_threads_put_and_get_at_the_same_time(self, packs):
        problems = []

        def put_and_get(seed: int):
            for number in range(60):
                # Half of the values are put by all threads.
                wanted = [value(number), value(1000 * seed + number)]
                refs = packs.put_many(wanted)
                if number % 10 == 0:
                    packs.sync()
                if packs.get_many(refs) != wanted or [packs.get(ref) for ref in refs] != wanted:
                    problems.append((seed, number))

        threads = [threading.Thread(target=put_and_get, args=(seed,)) for seed in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        assert list(packs.verify()) == []


def huge_view() -> memoryview:
    """Return a view of more bytes than a value may have, of pages that are never touched."""
    import mmap

    return memoryview(mmap.mmap(-1, MAX_VALUE_BYTES + 1, prot=mmap.PROT_READ))
