"""Which methods a word takes where DVID does not look at the method, or tells HEAD from GET."""

from collections.abc import Iterable, Mapping
from typing import Any

from dvid_es.errors import InvalidRequest
from dvid_es.http.datatype import Handler
from dvid_es.http.node import NodeRequest


def with_verbs(
    table: Mapping[str, Handler],
    *,
    any_method: Iterable[str] = (),
    no_head: Iterable[str] = (),
) -> dict[str, Handler]:
    """Return a table of endpoints with more entries.

    Args:
        table: the entries that are there.
        any_method: words that answer every method as GET. Where a version is committed, POST, PUT and
            DELETE are refused before that.
        no_head: words that refuse HEAD, which otherwise is a GET.
    """
    return {
        **table,
        **{f"* {word}": table[f"GET {word}"] for word in any_method},
        **{f"HEAD {word}": _refuse for word in no_head},
    }


async def _refuse(request: NodeRequest) -> Any:
    """Refuse a method."""
    raise InvalidRequest(f"this endpoint does not support {request.method}")
