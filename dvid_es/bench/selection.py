"""Finding workloads by name."""

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from dvid_es.bench.workloads import WORKLOADS
from dvid_es.bench.workloads.base import Workload
from dvid_es.errors import InvalidRequest


def select(names: Sequence[str]) -> list[type[Workload]]:
    """Return the named workloads in the order of the bench; all of them if none is named.

    Args:
        names: names, or patterns like `get-*`.

    Raises:
        InvalidRequest: a name that none has.
    """
    known = [one.name for one in WORKLOADS]
    for name in names:
        if not any(fnmatchcase(one, name) for one in known):
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f": choose from {', '.join(known)}"
            raise InvalidRequest(f"there is no workload {name!r}{hint}")
    if not names:
        return list(WORKLOADS)
    return [one for one in WORKLOADS if any(fnmatchcase(one.name, name) for name in names)]
