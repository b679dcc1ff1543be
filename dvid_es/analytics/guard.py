"""Which queries may run: one SELECT over the documented views. The sandbox refuses the rest once more.

A query is parsed by DuckDB itself and its tree is searched for anything that is not a view of ours: so
the refusal comes before a plan is made, and says what is meant instead.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import duckdb

from dvid_es.analytics.views import FUNCTIONS, VIEWS
from dvid_es.errors import InvalidRequest

SQL_BYTES_MAX = 100_000

_TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "repeat_row", *FUNCTIONS})
_REFUSED = frozenset(
    {
        "current_setting", "getenv", "getvariable", "nextval", "currval", "setval", "setseed",
        "write_log", "sleep_ms", "pg_sleep", "current_query", "json_execute_serialized_sql",
        "json_serialize_plan", "json_deserialize_sql", "json_serialize_sql",
    }
)  # fmt: skip


class Checked(NamedTuple):
    """A query that may run."""

    sql: str
    states: dict[str, list[str]]
    """Versions that functions such as `bodies_at` are asked for, by function."""


def check(connection: duckdb.DuckDBPyConnection, sql: str) -> Checked:
    """Return what a query needs.

    Raises:
        InvalidRequest: it is not one SELECT over our views.
    """
    if len(sql.encode("utf-8", "replace")) > SQL_BYTES_MAX:
        raise InvalidRequest(f"a query has at most {SQL_BYTES_MAX} bytes")
    try:
        found = connection.extract_statements(sql)
    except duckdb.Error as problem:
        raise InvalidRequest(_text(problem)) from None
    if len(found) != 1:
        raise InvalidRequest(f"one statement at a time is answered; there are {len(found)}")
    if found[0].type != duckdb.StatementType.SELECT:
        raise InvalidRequest(
            f"only SELECT is answered, not {found[0].type.name}: this is a view of history and"
            " cannot change anything"
        )
    text = connection.execute("SELECT json_serialize_sql(?)", [found[0].query]).fetchone()
    assert text is not None
    tree = json.loads(text[0])
    if tree.get("error") or len(tree.get("statements", ())) != 1:
        raise InvalidRequest(f"this query cannot be read: {tree.get('error_message', 'no SELECT')}")
    return Checked(found[0].query, _search(tree))


def _search(tree: Any) -> dict[str, list[str]]:
    defined = {str(name).lower() for name in _defined(tree)}
    states: dict[str, list[str]] = {}
    for node in _nodes(tree):
        kind = node.get("type")
        if kind == "BASE_TABLE":
            _check_table(node, defined)
        elif kind == "TABLE_FUNCTION":
            _check_function(node["function"], states)
        elif kind == "SHOW_REF" and node.get("query") is None:
            raise InvalidRequest(f"SHOW is not answered; the views are {', '.join(VIEWS)}")
        if node.get("class") == "FUNCTION":
            name = str(node.get("function_name", "")).lower()
            if name in _REFUSED:
                raise InvalidRequest(f"the function {name} is not available")
    return states


def _check_table(node: dict[str, Any], defined: set[str]) -> None:
    path = [str(part).lower() for part in node.get("qualified_name", {}).get("path", [])]
    path = path or [str(node.get("table_name", "")).lower()]
    known = path[-1] in VIEWS or (len(path) == 1 and path[-1] in defined)
    if not known or path[:-1] not in ([], ["main"], ["memory", "main"]):
        raise InvalidRequest(
            f'there is no table "{".".join(path)}"; the views are {", ".join(VIEWS)}, and'
            f" {', '.join(f'{name}(version)' for name in FUNCTIONS)}"
        )


def _check_function(node: dict[str, Any], states: dict[str, list[str]]) -> None:
    name = str(node.get("function_name", "")).lower()
    path = node.get("qualified_name", {}).get("path", [name])
    if name not in _TABLE_FUNCTIONS or len(path) != 1:
        raise InvalidRequest(
            f"the function {name} is not available: queries read the views {', '.join(VIEWS)}"
        )
    if name not in FUNCTIONS:
        return
    given = node.get("arguments", [])
    literal = given[0].get("expression", {}).get("literal", {}) if len(given) == 1 else {}
    if literal.get("kind") != "STRING":
        raise InvalidRequest(
            f"{name} takes one version as a text, such as {name}('3f8c') or {name}(':master')"
        )
    asked = states.setdefault(name, [])
    if literal["text"] not in asked:
        asked.append(literal["text"])


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _defined(tree: Any) -> Iterator[str]:
    """Iterate over the names that WITH gives."""
    for node in _nodes(tree):
        if isinstance(found := node.get("cte_map"), dict):
            for entry in found.get("map", []):
                yield entry["key"]


def _text(problem: Exception) -> str:
    return str(problem).strip() or type(problem).__name__
