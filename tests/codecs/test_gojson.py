import json
import struct
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvid_es.codecs import gojson
from dvid_es.errors import InvalidRequest

# What Go 1.26 writes.
NUMBERS = {
    0.0: "0",
    1.0: "1",
    0.1: "0.1",
    100.0: "100",
    -2.5: "-2.5",
    1e20: "100000000000000000000",
    9.999999999999999e20: "999999999999999900000",
    1e21: "1e+21",
    1e22: "1e+22",
    1e-6: "0.000001",
    9.999e-7: "9.999e-7",
    1.5e-7: "1.5e-7",
    1e-10: "1e-10",
    123456.789: "123456.789",
    5e-324: "5e-324",
    1.7976931348623157e308: "1.7976931348623157e+308",
    0.3333333333333333: "0.3333333333333333",
    9007199254740992.0: "9007199254740992",
    9223372036854775808.0: "9223372036854776000",
}

TIMES = {
    0: ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1970-01-01 00:00:00 +0000 UTC"),
    120: (
        "1970-01-01T00:00:00.00000012Z",
        "1970-01-01T00:00:00Z",
        "1970-01-01 00:00:00.00000012 +0000 UTC",
    ),
    -1: (
        "1969-12-31T23:59:59.999999999Z",
        "1969-12-31T23:59:59Z",
        "1969-12-31 23:59:59.999999999 +0000 UTC",
    ),
    1500000000: (
        "1970-01-01T00:00:01.5Z",
        "1970-01-01T00:00:01Z",
        "1970-01-01 00:00:01.5 +0000 UTC",
    ),
    951782400000000000: (
        "2000-02-29T00:00:00Z",
        "2000-02-29T00:00:00Z",
        "2000-02-29 00:00:00 +0000 UTC",
    ),
    1613264282708146297: (
        "2021-02-14T00:58:02.708146297Z",
        "2021-02-14T00:58:02Z",
        "2021-02-14 00:58:02.708146297 +0000 UTC",
    ),
    1709164800000000001: (
        "2024-02-29T00:00:00.000000001Z",
        "2024-02-29T00:00:00Z",
        "2024-02-29 00:00:00.000000001 +0000 UTC",
    ),
    4102444799999999999: (
        "2099-12-31T23:59:59.999999999Z",
        "2099-12-31T23:59:59Z",
        "2099-12-31 23:59:59.999999999 +0000 UTC",
    ),
}


@pytest.mark.parametrize("value", NUMBERS)
def test_numbers_are_those_of_go(value):
    assert gojson.number(value) == NUMBERS[value]
    if value > 0:
        assert gojson.number(-value) == "-" + NUMBERS[value]


def test_minus_zero_keeps_its_sign():
    assert gojson.number(-0.0) == "-0"


@given(st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("d", struct.pack("Q", bits))[0]))
def test_every_number_reads_back(value):
    if value != value or value in (float("inf"), float("-inf")):
        with pytest.raises(InvalidRequest):
            gojson.number(value)
        return
    text = gojson.number(value)
    assert float(text) == value
    assert ("e" in text) == (value != 0 and not 1e-6 <= abs(value) < 1e21)
    assert json.loads(text) == value


@pytest.mark.parametrize("time_ns", TIMES)
def test_times_are_those_of_go(time_ns):
    nano, seconds, text = TIMES[time_ns]
    assert gojson.rfc3339_nano(time_ns) == nano
    assert gojson.rfc3339(time_ns) == seconds
    assert gojson.time_string(time_ns) == text


@given(st.integers(-(2**60), 2**62))
def test_dates_are_those_of_the_calendar(time_ns):
    want = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time_ns // 10**9)
    assert gojson.rfc3339(time_ns) == want.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_strings_are_escaped_as_go_does():
    assert gojson.string('<a href="x">&\\/') == ('"\\u003ca href=\\"x\\"\\u003e\\u0026\\\\/"')
    assert gojson.string("\b\f\n\r\t\0\x1f\x7fé😀") == '"\\b\\f\\n\\r\\t\\u0000\\u001f\x7fé😀"'
    assert gojson.string("\u2028\u2029") == '"\\u2028\\u2029"'
    assert gojson.string("\ud800") == '"\\ufffd"'


@given(st.text())
def test_every_string_reads_back(text):
    assert json.loads(gojson.string(text)) == text


def test_text_is_compact_and_keys_are_sorted_when_asked():
    value = {"b": 1, "a": [1, 2.5, None, True, False, "x"], "<": {}, "é": (), "Z": [{}]}
    assert gojson.dumps(value) == (
        '{"b":1,"a":[1,2.5,null,true,false,"x"],"\\u003c":{},"é":[],"Z":[{}]}'
    )
    assert gojson.dumps(value, sort_keys=True) == (
        '{"\\u003c":{},"Z":[{}],"a":[1,2.5,null,true,false,"x"],"b":1,"é":[]}'
    )


def test_keys_are_sorted_by_their_bytes():
    assert gojson.dumps({"\U0001f600": 1, "\uffff": 2}, True) == '{"\uffff":2,"\U0001f600":1}'


def test_labels_keep_all_their_digits():
    assert gojson.dumps([2**64 - 1, 0, 2**53 + 1]) == "[18446744073709551615,0,9007199254740993]"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(-1e6, 1e6),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values, st.booleans())
def test_every_value_reads_back(value, sort_keys):
    assert json.loads(gojson.dumps(value, sort_keys)) == value


def test_what_has_no_json_is_a_mistake_of_the_caller():
    for value in (b"bytes", object(), {1, 2}):
        with pytest.raises(TypeError, match="no JSON"):
            gojson.dumps(value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(8, "8"), (8.0, "8"), (33.3, "33.3"), (4.25, "4.25"), (1 / 3, "0.33333334"), (1e-7, "1e-07")],
)
def test_numbers_of_32_bits_are_as_short_as_they_can_be(value: float, shown: str) -> None:
    assert repr(gojson.float32(value)) == shown


FLAT = st.one_of(
    st.text(), st.integers(-(2**70), 2**70), st.booleans(), st.none(),
    st.lists(st.integers(0, 2**64 - 1)), st.lists(st.text()), st.floats(-9, 9),
)  # fmt: skip


@given(st.dictionaries(st.text(), FLAT))
def test_a_flat_object_is_written_as_any_other(value: dict[str, object]) -> None:
    # A mapping that is no dict is always written piece by piece.
    assert gojson.dumps(value, sort_keys=True) == gojson.dumps(MappingProxyType(value), True)


@pytest.mark.parametrize(
    "text", ["<", "&", ">", "\u2028", "\u2029", '"', "\\", "\n", "\x7f", "é", "\ud800"]
)
def test_a_flat_object_escapes_what_go_escapes(text: str) -> None:
    assert gojson.dumps({"a": text}, sort_keys=True) == f'{{"a":{gojson.string(text)}}}'
