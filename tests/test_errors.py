from __future__ import annotations

import inspect
import re

from dvid_es import errors
from dvid_es.errors import DvidError
from dvid_es.http.errors import error_response


def drawn() -> list[tuple[int, str]]:
    """Return depth and name of each line of the tree in the module's docstring."""
    assert errors.__doc__ is not None
    found = []
    for line in errors.__doc__.splitlines():
        if match := re.match(r"^((?:│   |    )*(?:[├└]── )?)([A-Z]\w+)(?:\s{2,}|$)", line):
            found.append((len(match[1]) // 4, match[2]))
    return found


def real(kind: type[Exception], depth: int = 0) -> list[tuple[int, str]]:
    found = [(depth, kind.__name__)]
    for child in kind.__subclasses__():
        if child.__module__ == "dvid_es.errors":
            found += real(child, depth + 1)
    return found


def test_the_tree_is_the_one_that_is_drawn() -> None:
    assert sorted(drawn()) == sorted(real(DvidError))
    parents = {}
    line: list[str] = []
    for depth, name in drawn():
        line[depth:] = [name]
        parents[name] = line[depth - 1] if depth else "Exception"
    for name, parent in parents.items():
        assert getattr(errors, name).__bases__[0].__name__ == parent


def test_every_class_in_the_module_is_in_the_tree() -> None:
    names = {
        name
        for name, value in inspect.getmembers(errors, inspect.isclass)
        if value.__module__ == errors.__name__
    }
    assert names == {name for _, name in drawn()}


def test_every_error_has_the_status_that_the_tree_says() -> None:
    assert errors.__doc__ is not None
    for name in dict(drawn()[::-1]).values():
        match = re.search(rf"{name} .*\((?:HTTP )?(\d{{3}})\)", errors.__doc__)
        if match is None:
            continue
        kind = getattr(errors, name)
        made = kind("text", 5) if name == "RangeNotSatisfiable" else kind("text")
        assert error_response(made, "/api").status == int(match[1]), name
