"""`mutations` and `mutations-range`, for the tables of the datatypes that keep such records."""

from sanic.response import HTTPResponse

from dvid_es.errors import InvalidRequest
from dvid_es.http.node import TEXT, NodeRequest
from dvid_es.projections import mutations


def get_mutations(request: NodeRequest) -> HTTPResponse:
    """GET mutations[?userid=U]: the records of this version, oldest first."""
    return _answer(request, [request.version_id])


def get_mutations_range(request: NodeRequest) -> HTTPResponse:
    """GET mutations-range/<first>/<last>[?userid=U]: newest version first, along first parents.

    Raises:
        InvalidRequest: a version is missing, unknown, or of another repository.
    """
    if len(request.words) < 2:
        raise InvalidRequest("mutations-range needs two versions: mutations-range/<first>/<last>")
    ordinals = []
    for spec in request.words[:2]:
        stream, _, version = request.engine.resolve(spec)
        if stream.root != request.stream.root:
            raise InvalidRequest(f'version "{spec}" is not of this repository')
        ordinals.append(version.id)
    if not request.instance.versioned:
        return _answer(request, [1])
    return _answer(request, mutations.between(request.repo.graph, ordinals[0], ordinals[1]))


def _answer(request: NodeRequest, versions: list[int]) -> HTTPResponse:
    user = request.args.get("userid")
    texts = mutations.read(request.txn, request.instance.id, versions, request.view, user)
    # DVID leaves the type to be guessed from the bytes, which comes to plain text.
    return HTTPResponse(f"[{','.join(texts)}]", 200, content_type=TEXT)
