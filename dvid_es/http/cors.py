"""Which web pages of other origins may read answers.

Source: corsDomains in server/web.go (janelia-flyem/dvid). Both of its readings are taken: `*`, whole
origins, and domains with all below them.
"""

from urllib.parse import urlsplit

METHODS = "GET, HEAD, POST, PUT, DELETE, OPTIONS"
REQUEST_HEADERS = (
    "Authorization, Content-Type, Range, If-Match, If-None-Match, Idempotency-Key,"
    " X-DVID-Admin-Token, X-Requested-With"
)
EXPOSED = "X-DVID-ES-Seq, ETag, Accept-Ranges, Content-Range, Content-Length"


class Cors:
    """The origins that settings grant."""

    def __init__(self, domains: tuple[str, ...]) -> None:
        """Read `*`, origins such as `https://host:1234`, and domains such as `janelia.org`."""
        self.active = bool(domains)
        """Whether any header is ever sent."""
        self.everybody = "*" in domains
        self._origins = {entry.rstrip("/").lower() for entry in domains if "://" in entry}
        self._domains = {entry.lower().lstrip(".") for entry in domains if "://" not in entry}

    def allows(self, origin: str) -> bool:
        """Say whether an origin is named in the settings."""
        lower = origin.lower()
        if lower in self._origins:
            return True
        try:
            host = urlsplit(lower).hostname or ""
        except ValueError:
            return False
        return any(host == name or host.endswith(f".{name}") for name in self._domains)

    def headers(self, origin: str | None) -> dict[str, str]:
        """Return the headers of an answer to a page of `origin`; without `*` none to strangers."""
        if self.everybody:
            return {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": EXPOSED}
        if not (self._origins or self._domains):
            return {}
        if origin is None or not self.allows(origin):
            return {"Vary": "Origin"}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Expose-Headers": EXPOSED,
            "Vary": "Origin",
        }

    def preflight(self, origin: str | None) -> dict[str, str]:
        """Return the headers of an answer to OPTIONS."""
        granted = self.headers(origin)
        if "Access-Control-Allow-Origin" in granted:
            granted["Access-Control-Allow-Methods"] = METHODS
            granted["Access-Control-Allow-Headers"] = REQUEST_HEADERS
            granted["Access-Control-Max-Age"] = "600"
        return granted
