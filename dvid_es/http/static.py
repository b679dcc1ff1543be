"""The files of a web client, where no endpoint is.

Source: static files in server/web.go (janelia-flyem/dvid).
"""

import mimetypes
from pathlib import Path

from sanic.response import HTTPResponse

from dvid_es.errors import NotFound
from dvid_es.http.errors import PAGE_NOT_FOUND
from dvid_es.http.node import NodeRequest
from dvid_es.settings import Settings


class StaticFiles:
    """A folder, and what to do about paths that are not in it."""

    def __init__(self, settings: Settings) -> None:
        """Serve as the settings say; nothing without `web_client` or a redirect."""
        self._folder = settings.web_client.resolve() if settings.web_client else None
        self._default = settings.web_default_file
        self._redirect = settings.web_redirect_path
        self.serves = bool(self._folder or self._redirect)

    def has_index(self) -> bool:
        """Whether there is a start page."""
        return self._folder is not None and (self._folder / "index.html").is_file()

    def _file(self, path: str) -> Path | None:
        """Return the file of a decoded path, which never lies outside of the folder."""
        if self._folder is None or "\0" in path:
            return None
        found = (self._folder / path.lstrip("/")).resolve()
        if not found.is_relative_to(self._folder):
            return None
        if found.is_dir():
            found /= "index.html"
        return found if found.is_file() else None

    async def __call__(self, request: NodeRequest) -> HTTPResponse:
        """Answer with a file, a redirect, the default file, or 404."""
        return await request.in_thread(self._answer, request.path)

    def _answer(self, path: str) -> HTTPResponse:
        found = self._file(path)
        if found is None and self._redirect:
            return HTTPResponse(None, 308, {"Location": self._redirect})
        if found is None and self._default:
            found = self._file(self._default)
        if found is None:
            raise NotFound(PAGE_NOT_FOUND)
        kind = mimetypes.guess_type(found.name)[0] or "application/octet-stream"
        if kind.startswith("text/"):
            kind += "; charset=utf-8"
        return HTTPResponse(found.read_bytes(), 200, content_type=kind)
