"""Pages for people: help made of the tables of endpoints, the page at /, and a RAML description."""

import html
import inspect
from collections.abc import Iterable, Mapping
from importlib.resources import files
from string import Template

from dvid_es import __version__
from dvid_es.errors import InvalidRequest
from dvid_es.http.datatype import Handler
from dvid_es.http.node import NodeRequest

_PAGES = files("dvid_es.http")


def _template(name: str) -> Template:
    return Template(_PAGES.joinpath(name).read_text("utf-8"))


_HELP = _template("help.html")
_LANDING = _template("landing.html")


def datatype_help(request: NodeRequest, name: str) -> str:
    """Return the help text of a datatype.

    Raises:
        InvalidRequest: there is no such datatype.
    """
    found = request.server.datatypes.get(name)
    if found is None:
        raise InvalidRequest(f'Data type "{name}" is not supported by current DVID server')
    return found.help


def _entries(prefix: str, routes: Mapping[str, Handler]) -> list[tuple[str, str, str]]:
    """Return method, path and first sentence about each endpoint of a table.

    The docstring of a handler begins with its call, such as "GET key/<key>: the bytes of a value."
    """
    found = []
    for key, handler in routes.items():
        method, _, word = key.partition(" ")
        text = inspect.cleandoc(getattr(handler, "__doc__", None) or "").split("\n\n")[0]
        text = " ".join(text.split())
        call, colon, rest = text.partition(": ")
        if colon and call.split(" ")[0] == method:
            word, text = call.partition(" ")[2].strip("/"), rest
        found.append((method, f"{prefix}{word}", text[:1].upper() + text[1:]))
    return found


def _rows(entries: Iterable[tuple[str, str, str]]) -> str:
    return "\n".join(
        f"<tr><td>{html.escape(method)}</td><td><code>{html.escape(path)}</code></td>"
        f"<td>{html.escape(text)}</td></tr>"
        for method, path, text in entries
    )


def server_help(request: NodeRequest) -> str:
    """Return the help page: how to address versions, all common endpoints, links to datatypes."""
    server = request.server
    links = "\n".join(
        f'<li><a href="/api/help/{html.escape(name)}">{html.escape(name)}</a></li>'
        for name in sorted(server.datatypes)
    )
    return _HELP.substitute(
        version=html.escape(__version__),
        server=_rows(_entries("/", server.server_routes)),
        repo=_rows(_entries("/api/repo/<version>/", server.repo_routes)),
        node=_rows(_entries("/api/node/<version>/", server.node_routes)),
        common=_rows(_entries("/api/node/<version>/<name>/", server.common_routes)),
        datatypes=links,
    )


def landing_page(request: NodeRequest) -> str:
    """Return the page at /: what runs here and which repositories it has."""
    server = request.server
    rows = []
    for _, repo in request.engine.repos():
        document = repo.document
        names = ", ".join(
            f"{instance.name} ({instance.typename})"
            for instance in sorted(repo.names.values(), key=lambda found: found.name)[:12]
        )
        if len(repo.names) > 12:
            names += f", and {len(repo.names) - 12} more"
        cells = (
            document.alias or "(no alias)",
            repo.root,
            str(len(repo.graph.by_id)),
            names or "none yet",
        )
        link = f"/api/repo/{html.escape(repo.root)}/info"
        alias, root, versions, names = (html.escape(cell) for cell in cells)
        rows.append(
            f'<tr><td>{alias}</td><td><a href="{link}"><code>{root[:10]}</code></a></td>'
            f"<td>{versions}</td><td>{names}</td></tr>"
        )
    none = '<tr><td colspan="4">No repositories yet: POST /api/repos makes one.</td></tr>'
    note = html.escape(server.settings.note)
    return _LANDING.substitute(
        version=html.escape(__version__),
        address=html.escape(server.settings.address),
        note=f"<p>{note}</p>" if note else "",
        repos="\n".join(rows) or none,
    )


def raml(request: NodeRequest) -> str:
    """Return the endpoints of the server in RAML 0.8."""
    server = request.server
    tables = (
        ("/", server.server_routes),
        ("/api/repo/{version}/", server.repo_routes),
        ("/api/node/{version}/", server.node_routes),
        ("/api/node/{version}/{name}/", server.common_routes),
    )
    resources: dict[str, list[tuple[str, str]]] = {}
    for prefix, routes in tables:
        for key, handler in routes.items():
            method, _, word = key.partition(" ")
            text = " ".join((getattr(handler, "__doc__", None) or "").split("\n\n")[0].split())
            if method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
                resources.setdefault(f"{prefix}{word}", []).append((method.lower(), text))
    lines = ["#%RAML 0.8", "title: DVID-ES", "version: v1", "mediaType: application/json"]
    for path, methods in resources.items():
        lines.append(f"{path or '/'}:")
        for method, text in methods:
            quoted = text.replace("\\", "\\\\").replace('"', '\\"')
            lines += [f"  {method}:", f'    description: "{quoted}"']
    return "\n".join(lines) + "\n"
