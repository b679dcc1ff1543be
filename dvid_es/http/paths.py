"""Paths as Go's router cleans them: a literal `//`, `.` or `..` is answered with a redirect."""

from html import escape

from sanic.response import HTTPResponse


def clean_path(path: str) -> str:
    """Return an absolute path without empty, `.` and `..` parts; a slash at its end stays.

    Source: cleanPath in Go's net/http/server.go.
    """
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if kept:
                kept.pop()
        elif part not in ("", "."):
            kept.append(part)
    cleaned = "/" + "/".join(kept)
    return cleaned + "/" if path.endswith("/") and kept else cleaned


def origin_form(target: str) -> str:
    """Return path and query of a request target, which may begin with scheme and host."""
    if target.startswith("/") or target == "*":
        return target
    rest = target.partition("://")[2]
    return "/" + rest.partition("/")[2]


def redirect(method: str, location: str) -> HTTPResponse:
    """Return a redirect to a cleaned path, with a link for a reader if the request was a GET.

    Source: Redirect in Go's net/http/server.go.
    """
    headers = {"Location": location}
    if method not in ("GET", "HEAD"):
        return HTTPResponse(None, 307, headers)
    link = f'<a href="{escape(location)}">Temporary Redirect</a>.\n\n' if method == "GET" else None
    return HTTPResponse(link, 307, headers, "text/html; charset=utf-8")
