"""Elements as JSON texts, as Go writes them, byte for byte; and many of them packed.

The text of an element ends in its relationships, so that what label and tag lists show, the element
without them, is the beginning of the text and a brace.

Source: Element, ElementNR and Relationship in datatype/annotation/annotation.go (janelia-flyem/dvid).
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from dvid_es.geometry import Triple

Int32 = Annotated[int, msgspec.Meta(ge=-(1 << 31), le=(1 << 31) - 1)]
Point = tuple[Int32, Int32, Int32]
"""XYZ, as on the wire."""

KindName = Literal["Unknown", "PostSyn", "PreSyn", "Gap", "Note"]
Relation = Literal["UnknownRelationship", "PostSynTo", "PreSynTo", "ConvergentTo", "GroupedWith"]
KINDS = frozenset(get_args(KindName))
RELATIONS = frozenset(get_args(Relation))

ORIGIN: Triple = (0, 0, 0)


class Rel(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A relationship to what is at another place."""

    Rel: Relation = "UnknownRelationship"
    To: Point = ORIGIN


class Element(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An element as it is sent; what is None was null or missing."""

    Pos: Point = ORIGIN
    Kind: KindName = "Unknown"
    Tags: list[str] | None = None
    Prop: dict[str, str] | None = None
    Rels: list[Rel] | None = None


class _Part(msgspec.Struct, gc=False):
    """Of an element that is stored, what folds ask for."""

    Tags: list[str] | None = None
    Rels: list[Rel] | None = None


class Packed(NamedTuple):
    """Elements as events and rows hold them."""

    points_zyx: NDArray[np.int32]
    """int32[n, 3]: where they are."""

    cuts: list[int]
    """Of each text, the bytes before its relationships."""

    texts: list[bytes]
    """JSON."""


_encode = msgspec.json.Encoder(order="deterministic").encode
_decode_one = msgspec.json.Decoder(Element).decode
_decode_part = msgspec.json.Decoder(_Part).decode
_ESCAPED = tuple(
    (text.encode(), f"\\u{ord(text):04x}".encode()) for text in ("<", ">", "&", "\u2028", "\u2029")
)
_TO_ESCAPE = re.compile(b"[<>&]|\xe2\x80[\xa8\xa9]")
RELS = b',"Rels":'
_NULLS = (
    (b',"Tags":null,', b',"Tags":[],'),
    (b',"Prop":null,', b',"Prop":{},'),
    (b',"Rels":null}', b',"Rels":[]}'),
)
# A quote inside of a JSON string has a backslash in front, and values of Prop are texts: these bytes
# are nowhere but where the fields of an element are.


def text_of(element: Element) -> tuple[bytes, int]:
    """Return the JSON of an element, and how many bytes of it are before its relationships."""
    text = _encode(element)
    rels = len(_encode(element.Rels))
    if _TO_ESCAPE.search(text):
        for plain, escaped in _ESCAPED:
            text = text.replace(plain, escaped)
    return text, len(text) - rels - len(RELS) - 1


def without_nulls(text: bytes, cut: int) -> tuple[bytes, int]:
    """Return the text and cut of an element with empty values in place of nulls."""
    if b":null" in text:
        for null, nothing in _NULLS:
            if null in text:
                text = text.replace(null, nothing, 1)
                cut -= 2 if null[-1:] == b"," else 0
    return text, cut


def read_element(text: bytes) -> Element:
    """Return an element of its text."""
    return _decode_one(text)


def tags_of(text: bytes) -> list[str]:
    """Return the tags of an element, without the empty one, which nobody can ask for."""
    if b'"Tags":["' not in text:
        return []
    return [tag for tag in _decode_part(text).Tags or () if tag]


def targets_of(text: bytes) -> list[Triple]:
    """Return where the relationships of an element lead to, XYZ."""
    if text.endswith((b":[]}", b":null}")):
        return []
    return [rel.To for rel in _decode_part(text).Rels or ()]


def points_to(text: bytes, point_xyz: Triple) -> bool:
    """Say whether a relationship of an element leads to a place."""
    return b'"To":[%d,%d,%d]' % point_xyz in text


# -- packed ----------------------------------------------------------------------------------


def pack(elements: Sequence[Element]) -> Packed:
    """Return elements as events hold them."""
    made = [text_of(element) for element in elements]
    points = np.array([element.Pos for element in elements], np.int32).reshape(-1, 3)
    return Packed(points[:, ::-1], [cut for _, cut in made], [text for text, _ in made])


def points_bytes(packed: Packed) -> bytes:
    """Return the bytes of the places of packed elements: int32[n, 3] ZYX, little endian."""
    return packed.points_zyx.astype("<i4").tobytes()


def texts_bytes(packed: Packed) -> bytes:
    """Return the bytes of their texts: cuts u32[n], lengths u32[n], and the texts."""
    lengths = np.fromiter(map(len, packed.texts), "<u4", len(packed.texts))
    cuts = np.array(packed.cuts, "<u4")
    return b"".join((cuts.tobytes(), lengths.tobytes(), *packed.texts))


def unpack(points: bytes, texts: bytes) -> Packed:
    """Return packed elements of their bytes."""
    points_zyx = np.frombuffer(points, "<i4").astype(np.int32).reshape(-1, 3)
    n = len(points_zyx)
    cuts = np.frombuffer(texts, "<u4", n).tolist()
    ends = np.cumsum(np.frombuffer(texts, "<u4", n, 4 * n), dtype=np.int64) + 8 * n
    bounds = [8 * n, *ends.tolist()]
    return Packed(points_zyx, cuts, [texts[a:b] for a, b in pairwise(bounds)])


def joined(texts: Iterable[bytes]) -> bytes:
    """Return the JSON array of texts."""
    return b"[" + b",".join(texts) + b"]"
