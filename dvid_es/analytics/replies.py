"""What a worker says before the body of an answer, and what the body may be."""

from collections.abc import Mapping

import msgspec

CONTENT_TYPES: Mapping[str, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}
"""By the name of the format."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The head of an answer."""

    error: str = ""
    """Why the query is refused."""

    needs: dict[str, list[str]] = {}
    """States that the query needs and that the request did not bring: ask again with them."""

    rows: int = 0
    leaving: bool = False
    """Whether this process ends now: it has become large."""
