"""What a datatype gives to the server: its endpoints, folds, settings and texts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dvid_es.analytics.touched import Describe, Table
from dvid_es.events import Event
from dvid_es.feed.messages import Place
from dvid_es.projections.catalog import Instance
from dvid_es.projections.fold import Fold
from dvid_es.projections.txn import ReadTxn
from dvid_es.projections.versioned import Row
from dvid_es.publishing.messages import Classic, Overheard
from dvid_es.versions import View

Winner = Callable[[Sequence[Row]], Row]
"""Chooses among the rows of a `versioned.Conflict`: the first parent's."""

ANY_TYPE = frozenset({"*"})
"""A type may listen to any other: it takes no notice of those that it cannot use."""

Handler = Callable[..., Any]
"""`async def handler(request: NodeRequest) -> HTTPResponse`, or the same without `async` when it
takes less than a millisecond."""


class Created(NamedTuple):
    """What the configuration of a new instance comes to."""

    settings: dict[str, Any]
    """Kept in the instance's document: plain values."""

    compression: str = "LZ4 compression, level -1"
    checksum: str = "No checksum"


@dataclass(frozen=True, slots=True, kw_only=True)
class Datatype:
    """One datatype. Endpoints are found by method and word, such as "GET key"."""

    name: str
    version: str
    endpoints: Mapping[str, Handler]
    folds: Mapping[type[Event], Fold]

    create: Callable[[Mapping[str, str]], Created]
    """Settings of a new instance from its configuration (keys in lower case, values text).

    Raises InvalidRequest.
    """

    extended: Callable[[ReadTxn, Instance, View], dict[str, Any]] = lambda *_: {}
    """`Extended` of its info at a version."""

    extents: Callable[[ReadTxn, Instance, View], dict[str, Any] | None] = lambda *_: None
    """`Extents` of its info, for types that have them."""

    reads: frozenset[str] = frozenset()
    """POST endpoints that change nothing, such as "POST query": allowed on locked versions."""

    tagged: bool = True
    """Whether its instances have the endpoint `tags`; all have tags, which info shows."""

    conflicts: Callable[[ReadTxn, Instance, View], Iterable[str]] | None = None
    """Names of the values that a view of a version merge cannot read, for people."""

    resolve: Callable[[ReadTxn, Instance, View, Winner], Iterable[Event]] | None = None
    """Events that settle these conflicts, to be folded at the version of the view, which is only about
    to be made: each value becomes that of the row that `winner(rows)` chooses. Few events for many
    values. None: a version merge of this type cannot be resolved."""

    syncs: frozenset[str] | None = None
    """Names of the datatypes that it may listen to, or `ANY_TYPE`; None if it never listens."""

    supervoxels: Callable[[ReadTxn, Instance, View, int], Sequence[int]] | None = None
    """The supervoxels of a body, ascending; none if there is no such body. For types that listen to this
    one; None if it has no bodies made of supervoxels."""

    partner: Callable[[Instance, Instance], str] = lambda *_: ""
    """Says why an instance cannot listen to another one of these types; "" if it can."""

    help: str = ""
    """Text of /api/help/<name>, in our own words."""

    path: str = ""
    """Last part of the type's URL when it is not its name."""

    projections: Mapping[int, str] = field(default_factory=dict)
    """Name of each kind of row that it keeps, for digests: {kind: name}."""

    contents: Mapping[int, Callable[[bytes], bytes]] = field(default_factory=dict)
    """What to digest of a value, for kinds of rows whose folds compress: compressors may choose other
    bytes for the same content."""

    touched: Mapping[type[Event], Describe] = field(default_factory=dict)
    """What its events touch, for analytics and the feed."""

    placed: Mapping[type[Event], Place] = field(default_factory=dict)
    """Which blocks its events write, for the feed."""

    published: Mapping[type[Event], Classic] = field(default_factory=dict)
    """What DVID sends to Kafka for its events."""

    overheard: Overheard | None = None
    """What DVID sends to Kafka about its instances for events of the instances that they listen to."""

    tables: Mapping[str, Table] = field(default_factory=dict)
    """What an instance holds at a version, as tables for analytics, by their names."""

    @property
    def url(self) -> str:
        """DVID's name of the type, as clients see it in info."""
        return f"github.com/janelia-flyem/dvid/datatype/{self.path or self.name}"
