"""What the endpoints of repositories share: rights, passcodes, and commands about a whole repository."""

import hashlib
from collections.abc import Callable
from typing import Any

from sanic.response import HTTPResponse

from dvid_es.codecs import gojson
from dvid_es.commands import Command
from dvid_es.errors import InvalidRequest
from dvid_es.http.datatype import Datatype
from dvid_es.http.node import NodeRequest, raw_json
from dvid_es.projections.catalog import Instance, Repo
from dvid_es.repos.documents import StoresOf

PASSCODE_ROUNDS = 100_000


def json_answer(value: Any) -> HTTPResponse:
    """Return JSON as Go writes it."""
    return raw_json(gojson.dumps(value))


def takes_words(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a handler of a repository that takes more path parts after its word."""
    handler.takes_words = True  # type: ignore[attr-defined]
    return handler


def stores(request: NodeRequest) -> StoresOf:
    """Return what tells how info describes the stores that an instance is assigned to."""
    settings = request.server.settings

    def describe(repo: Repo, instance: Instance) -> tuple[str, str]:
        return settings.stores_of(
            data_uuid=instance.data_uuid,
            name=instance.name,
            version_uuid=repo.graph.by_id[instance.version].uuid,
            tags=instance.tags or {},
            typename=instance.typename,
        )

    return describe


def may_change_locked(request: NodeRequest) -> bool:
    """Return whether a request may change committed versions."""
    return request.is_admin or request.server.settings.mode == "fullwrite"


async def write_to_repo(request: NodeRequest, command: Command) -> bytes:
    """Have a command about the repository itself decided: of no version and no instance."""
    root = request.stream.root
    request.version = request.instance = None  # type: ignore[assignment]
    return await request.write(command, root=root)


async def passcode_digest(request: NodeRequest, root: str, passcode: str | None) -> str:
    """Return the digest of a passcode, salted with the root UUID; "" for none."""
    if not passcode:
        return ""
    digest = await request.in_thread(
        hashlib.pbkdf2_hmac, "sha256", passcode.encode(), root.encode(), PASSCODE_ROUNDS
    )
    return digest.hex()


def check_deletion(request: NodeRequest) -> None:
    """Refuse a deletion that is not meant: `imsure=true`, and the admin token where there is one.

    Raises:
        InvalidRequest: one of them is missing.
    """
    if request.args.get("imsure") != "true":
        raise InvalidRequest('DELETE needs the option "imsure=true"')
    check_admin_if_any(request, "DELETE")


def check_admin_if_any(request: NodeRequest, what: str) -> None:
    """Refuse a request without the admin token on a server that has one.

    Raises:
        AdminRequired: the token is not shown.
    """
    if request.server.settings.admin_token:
        request.need_admin(what)


def hooks(request: NodeRequest, name: str) -> dict[str, Callable[..., Any]]:
    """Return a hook of the datatypes that have it, by name of datatype."""
    datatypes: dict[str, Datatype] = dict(request.server.datatypes)
    found = {typename: getattr(datatype, name) for typename, datatype in datatypes.items()}
    return {typename: hook for typename, hook in found.items() if hook is not None}
